#include "launcher/platform/kubernetes/waiting_reasons.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "k8s/client/json_fields.h"

namespace muster::kubernetes {
namespace {

using k8s::At;
using k8s::IntegerAt;
using k8s::StringAt;
using nlohmann::json;

constexpr size_t kLongestMessage = 400;
constexpr std::string_view kKarpenter = "karpenter";

std::string NameOf(const json& object) { return StringAt(object, {"metadata", "name"}); }

// What a component has said, as the end of a sentence: on one line, without what repeats itself.
std::string Said(std::string message) {
  // "0/1 nodes are available: ... no new claims to deallocate, preemption: 0/1 nodes are available: ..."
  for (const std::string_view rest : {" preemption: ", " no new claims to deallocate"}) {
    message.resize(std::min(message.find(rest), message.size()));
  }
  // "Error creating: pods "x-coordinator-5kd2f" is forbidden: exceeded quota: ...", with a new name each time
  constexpr std::string_view kForbidden = "\" is forbidden: ";
  if (const size_t at = message.find(kForbidden); at != message.npos) {
    message.erase(0, at + kForbidden.size());
  }
  if (message.size() > kLongestMessage) message = message.substr(0, kLongestMessage) + "...";
  std::replace_if(
      message.begin(), message.end(), [](unsigned char c) { return c < ' '; }, ' ');
  while (message.ends_with('.') && !message.ends_with("...")) message.pop_back();
  return message;
}

std::string WithMessage(const std::string& sentence, const std::string& message) {
  const std::string said = Said(message);
  return said.empty() ? sentence : sentence + ": " + said;
}

// When it was last seen. Times of both precisions compare as texts to the second.
std::string TimeOf(const json& event) {
  std::string time = StringAt(event, {"series", "lastObservedTime"});
  if (time.empty()) time = StringAt(event, {"lastTimestamp"});
  if (time.empty()) time = StringAt(event, {"eventTime"});
  if (time.empty()) time = StringAt(event, {"metadata", "creationTimestamp"});
  return time.substr(0, 19);
}

bool FromKarpenter(const json& event) {
  return StringAt(event, {"source", "component"}) == kKarpenter ||
         StringAt(event, {"reportingComponent"}) == kKarpenter;
}

bool Concerns(const json& event, const json& object) {
  const std::string uid = StringAt(event, {"involvedObject", "uid"});
  return uid.empty() ? StringAt(event, {"involvedObject", "name"}) == NameOf(object)
                     : uid == StringAt(object, {"metadata", "uid"});
}

// The last event about `object` that `wanted` accepts.
template <typename Wanted>
const json* Newest(const std::vector<json>& events, const json& object, Wanted wanted) {
  const json* newest = nullptr;
  for (const json& event : events) {
    if (!Concerns(event, object) || !wanted(event, StringAt(event, {"reason"}))) continue;
    if (newest == nullptr || TimeOf(*newest) <= TimeOf(event)) newest = &event;
  }
  return newest;
}

std::string NewestMessage(const std::vector<json>& events, const json& object,
                          std::initializer_list<std::string_view> reasons) {
  const json* event = Newest(events, object, [&](const json& candidate, const std::string& reason) {
    return std::find(reasons.begin(), reasons.end(), reason) != reasons.end() &&
           !FromKarpenter(candidate);
  });
  return event == nullptr ? "" : StringAt(*event, {"message"});
}

const json* Condition(const json& object, std::string_view type, std::string_view status) {
  const json& conditions = At(object, {"status", "conditions"});
  if (!conditions.is_array()) return nullptr;
  for (const json& condition : conditions) {
    if (StringAt(condition, {"type"}) == type && StringAt(condition, {"status"}) == status) {
      return &condition;
    }
  }
  return nullptr;
}

// What an autoscaler does about a pod without a node; empty if none has said anything.
std::string AutoscalerNote(const json& pod, const std::vector<json>& events) {
  const json* event = Newest(events, pod, [](const json& candidate, const std::string& reason) {
    return reason == "TriggeredScaleUp" || reason == "NotTriggerScaleUp" || reason == "Nominated" ||
           (reason == "FailedScheduling" && FromKarpenter(candidate));
  });
  if (event == nullptr) return "";
  const std::string reason = StringAt(*event, {"reason"});
  const char* what = reason == "TriggeredScaleUp"    ? "; the cluster autoscaler adds a node"
                     : reason == "NotTriggerScaleUp" ? "; the cluster autoscaler adds none"
                     : reason == "Nominated"         ? "; Karpenter has a node for it"
                                                     : "; Karpenter adds none";
  return WithMessage(what, StringAt(*event, {"message"}));
}

std::string WhyNoNode(const json& pod, const std::vector<json>& events) {
  const json* unscheduled = Condition(pod, "PodScheduled", "False");
  std::string message = unscheduled == nullptr ? "" : StringAt(*unscheduled, {"message"});
  if (message.empty()) message = NewestMessage(events, pod, {"FailedScheduling"});
  const std::string autoscaler = AutoscalerNote(pod, events);
  if (message.empty() && autoscaler.empty()) {
    return fmt::format("pod {} waits for the scheduler", NameOf(pod));
  }
  return WithMessage(fmt::format("pod {} has no node yet", NameOf(pod)), message) + autoscaler;
}

// The state of its container, by name: "waiting", "terminated"; null if it is in another.
const json& ContainerState(const json& pod, const char* state) {
  static const json kNone;
  const json& statuses = At(pod, {"status", "containerStatuses"});
  if (!statuses.is_array() || statuses.empty()) return kNone;
  return At(statuses[0], {"state", state});
}

std::string WhyNotStarted(const json& pod, const std::vector<json>& events) {
  const std::string place =
      fmt::format("pod {} on node {}", NameOf(pod), StringAt(pod, {"spec", "nodeName"}));
  const json& waiting = ContainerState(pod, "waiting");
  const std::string reason = StringAt(waiting, {"reason"});
  const std::string message = StringAt(waiting, {"message"});
  if (reason == "ErrImagePull" || reason == "ImagePullBackOff" || reason == "InvalidImageName" ||
      reason == "ErrImageNeverPull" || reason == "ImageInspectError") {
    // The event says why, the state only that it is tried again.
    const json* failed = Newest(events, pod, [](const json& event, const std::string& kind) {
      return kind == "Failed" && StringAt(event, {"message"}).starts_with("Failed to pull image");
    });
    return WithMessage(place + " cannot get its image",
                       failed == nullptr ? message : StringAt(*failed, {"message"}));
  }
  if (!reason.empty() && reason != "ContainerCreating" && reason != "PodInitializing") {
    return WithMessage(fmt::format("{} cannot start ({})", place, reason), message);
  }
  const std::string under_way = NewestMessage(
      events, pod, {"Pulling", "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"});
  return WithMessage(place + " is starting", under_way);
}

std::string HowEnded(const json& pod) {
  const json& end = ContainerState(pod, "terminated");
  std::string text = fmt::format("pod {} has ended", NameOf(pod));
  if (end.is_object()) {
    text += fmt::format(" with exit code {}", IntegerAt(end, {"exitCode"}, -1));
    const std::string reason = StringAt(end, {"reason"});
    if (!reason.empty() && reason != "Error" && reason != "Completed") text += " (" + reason + ")";
    return WithMessage(text, StringAt(end, {"message"}));
  }
  const std::string reason = StringAt(pod, {"status", "reason"});
  if (!reason.empty()) text += " (" + reason + ")";
  return WithMessage(text, StringAt(pod, {"status", "message"}));
}

bool HasEnded(const json& pod) {
  const std::string phase = StringAt(pod, {"status", "phase"});
  return phase == "Failed" || phase == "Succeeded";
}

// The pod that counts: the youngest that has not ended, else the youngest.
const json* CurrentPod(const std::vector<json>& pods) {
  const auto key = [](const json& pod) {
    return std::pair(!HasEnded(pod), StringAt(pod, {"metadata", "creationTimestamp"}));
  };
  const auto found = std::max_element(
      pods.begin(), pods.end(), [&](const json& a, const json& b) { return key(a) < key(b); });
  return found == pods.end() ? nullptr : &*found;
}

}  // namespace

std::string WhyPodWaits(const json& pod, const std::vector<json>& events) {
  if (HasEnded(pod)) return HowEnded(pod);
  if (!StringAt(pod, {"metadata", "deletionTimestamp"}).empty()) {
    const json* disrupted = Condition(pod, "DisruptionTarget", "True");
    return WithMessage(fmt::format("pod {} is being deleted", NameOf(pod)),
                       disrupted == nullptr ? "" : StringAt(*disrupted, {"message"}));
  }
  if (StringAt(pod, {"spec", "nodeName"}).empty()) return WhyNoNode(pod, events);
  if (StringAt(pod, {"status", "phase"}) != "Running") return WhyNotStarted(pod, events);
  return "";
}

std::optional<std::string> CoordinatorFailure(const RunScene& scene) {
  if (Condition(scene.job, "Complete", "True") != nullptr) {
    return "the coordinator's Job has ended without a result";
  }
  const json* failed = Condition(scene.job, "Failed", "True");
  if (failed == nullptr) return std::nullopt;
  std::string text =
      WithMessage("the coordinator's Job has failed", StringAt(*failed, {"message"}));
  if (const json* pod = CurrentPod(scene.pods)) text += "; " + HowEnded(*pod);
  return text;
}

std::string WhyCoordinatorWaits(const RunScene& scene) {
  if (!scene.job.is_object()) return "the coordinator's Job is not there";
  if (const auto failure = CoordinatorFailure(scene)) return *failure;
  const json* pod = CurrentPod(scene.pods);
  if (pod == nullptr || HasEnded(*pod)) {
    const std::string refused = NewestMessage(scene.events, scene.job, {"FailedCreate"});
    if (!refused.empty()) return WithMessage("the coordinator's pod cannot be made", refused);
    if (pod == nullptr) return "the coordinator's pod is being made";
    return fmt::format("the coordinator's {}; its Job makes a new one", HowEnded(*pod));
  }
  const std::string why = WhyPodWaits(*pod, scene.events);
  if (!why.empty()) return "the coordinator waits: " + why;
  return fmt::format("the coordinator runs in pod {} on node {} and does not answer yet",
                     NameOf(*pod), StringAt(*pod, {"spec", "nodeName"}));
}

}  // namespace muster::kubernetes
