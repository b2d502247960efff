#include "launcher/platform/kubernetes/pod_view.h"

#include <string_view>

#include "k8s/client/json_fields.h"
#include "launcher/platform/kubernetes/names.h"

namespace muster::kubernetes {
namespace {

using fleet::PodPhase;
using fleet::PodView;
using k8s::At;
using k8s::IntegerAt;
using k8s::StringAt;
using nlohmann::json;

constexpr int kSignalBase = 128;
constexpr int kLastSignal = 64;

PodPhase PhaseOf(const json& pod) {
  const std::string phase = StringAt(pod, {"status", "phase"});
  if (phase == "Running" || phase == "Unknown") return PodPhase::kRunning;
  if (phase == "Succeeded") return PodPhase::kSucceeded;
  if (phase == "Failed") return PodPhase::kFailed;
  return PodPhase::kPending;
}

void ReadConditions(const json& pod, PodView& view) {
  for (const json& condition : At(pod, {"status", "conditions"})) {
    const std::string type = StringAt(condition, {"type"});
    const std::string status = StringAt(condition, {"status"});
    const std::string reason = StringAt(condition, {"reason"});
    if (type == "DisruptionTarget" && status == "True") {
      view.disruption = reason.empty() ? type : reason;
    } else if (type == "PodScheduled" && status == "False") {
      view.unscheduled_reason = reason;
      view.unscheduled_message = StringAt(condition, {"message"});
    }
  }
}

bool IsUsual(const std::string& waiting) {
  return waiting.empty() || waiting == "ContainerCreating" || waiting == "PodInitializing";
}

// The first reason that is out of the ordinary, if any container has one.
void ReadWaiting(const json& statuses, PodView& view) {
  for (const json& status : statuses) {
    const std::string reason = StringAt(status, {"state", "waiting", "reason"});
    if (reason.empty() || (IsUsual(reason) && !view.waiting_reason.empty())) continue;
    if (!IsUsual(view.waiting_reason)) continue;
    view.waiting_reason = reason;
    view.waiting_message = StringAt(status, {"state", "waiting", "message"});
  }
}

void ReadEnd(const json& terminated, PodView& view) {
  const auto code = static_cast<int>(IntegerAt(terminated, {"exitCode"}, 0));
  view.exit_code = code;
  view.exit_reason = StringAt(terminated, {"reason"});
  view.signal = static_cast<int>(IntegerAt(terminated, {"signal"}, 0));
  if (view.signal == 0 && code > kSignalBase && code <= kSignalBase + kLastSignal) {
    view.signal = code - kSignalBase;
  }
}

void ReadWorker(const json& statuses, PodView& view) {
  for (const json& status : statuses) {
    const json& terminated = At(status, {"state", "terminated"});
    if (StringAt(status, {"name"}) != kWorkerContainer || !terminated.is_object()) continue;
    ReadEnd(terminated, view);
    if (view.phase != PodPhase::kRunning) continue;
    view.phase = view.exit_code == 0 ? PodPhase::kSucceeded : PodPhase::kFailed;
  }
}

}  // namespace

PodView ViewOfPod(const json& pod) {
  PodView view;
  view.name = StringAt(pod, {"metadata", "name"});
  view.uid = StringAt(pod, {"metadata", "uid"});
  view.run = StringAt(pod, {"metadata", "labels", std::string(kRunLabel).c_str()});
  view.node = StringAt(pod, {"spec", "nodeName"});
  view.phase = PhaseOf(pod);
  view.terminating = !At(pod, {"metadata", "deletionTimestamp"}).is_null();
  ReadConditions(pod, view);
  ReadWaiting(At(pod, {"status", "initContainerStatuses"}), view);
  ReadWaiting(At(pod, {"status", "containerStatuses"}), view);
  ReadWorker(At(pod, {"status", "containerStatuses"}), view);
  if (view.phase == PodPhase::kFailed && view.exit_reason.empty()) {
    view.exit_reason = StringAt(pod, {"status", "reason"});
  }
  return view;
}

}  // namespace muster::kubernetes
