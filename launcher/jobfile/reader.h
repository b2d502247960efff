// Reader: makes a JobFile from the tree of its text.
//
// Threading: pure functions.
#pragma once

#include "launcher/jobfile/document.h"
#include "launcher/jobfile/job_file.h"
#include "launcher/jobfile/section.h"

namespace muster {

// What `root` describes, as far as it is right; everything that is wrong with it is added to `findings`, in no particular order.
JobFile ReadJob(const DocumentNode& root, Findings& findings);

}  // namespace muster
