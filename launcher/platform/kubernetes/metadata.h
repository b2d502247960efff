// Metadata: what all objects of a run have in common. For the files of this folder.
//
// Threading: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "launcher/platform/kubernetes/objects.h"

namespace muster::kubernetes {

// With an empty `component`, those that every object has.
Json Labels(const JobSpec& spec, std::string_view component = "");

// An object of the run that its ConfigMap owns: apiVersion, kind and metadata.
Json OwnedObject(const ClusterRun& run, std::string_view api_version, std::string_view kind,
                 const std::string& name, const Json& labels);

}  // namespace muster::kubernetes
