// PodSandbox: a pod as a process in namespaces of its own, with an address of its own.
//
// The machine's files are seen through an overlay, so what a pod writes outside of its volumes vanishes with it, and mount points can
// be made. Processes of a pod cannot outlive the pod's first one, nor that one the node.
//
// Threading: StartPod from the main thread only (Spawn). RunPodInit is main() of the process that StartPod spawns.
#pragma once

#include <sys/types.h>

#include <string>

#include "runtime/base/status.h"
#include "tests/cluster/node/pod_plan.h"

namespace muster::cluster {

// The argument that makes this program a pod's first process.
inline constexpr const char* kPodInit = "--pod-init";

struct PodAddress {
  std::string ip;    // of the pod
  std::string node;  // address of the node, the pod's gateway
};

// Starts `plan`, which prints to the descriptor `output`. Returns the process to wait for and to signal; it ends as the pod's program does, with 128
// and the signal's number for a signal. Blocks some 50 ms for the network. Errors: kInternal with what failed.
Result<pid_t> StartPod(const PodPlan& plan, const PodAddress& address, int output);

int RunPodInit();

}  // namespace muster::cluster
