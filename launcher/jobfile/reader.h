// Reader: makes a JobFile from the tree of its text.
//
// Threading: pure functions.
#pragma once

#include <string_view>

#include "launcher/jobfile/document.h"
#include "launcher/jobfile/job_file.h"
#include "launcher/jobfile/section.h"

namespace muster {

// What `root` describes, as far as it is right; everything that is wrong with it is added to `findings`, in no particular order.
JobFile ReadJob(const DocumentNode& root, Findings& findings);

// The rules for names that flags may give too: of a container image; of a Kubernetes object (a DNS subdomain, RFC 1123).
bool IsImageName(std::string_view text);
bool IsObjectName(std::string_view text);

}  // namespace muster
