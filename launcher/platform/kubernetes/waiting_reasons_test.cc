#include "launcher/platform/kubernetes/waiting_reasons.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace muster::kubernetes {
namespace {

using nlohmann::json;

json Pod(const std::string& name, const json& spec, const json& status) {
  return {{"metadata",
           {{"name", name}, {"uid", "uid-" + name}, {"creationTimestamp", "2026-01-01T00:00:00Z"}}},
          {"spec", spec},
          {"status", status}};
}

json Event(const std::string& object, const std::string& reason, const std::string& message,
           const std::string& time = "2026-01-01T00:00:05Z") {
  return {{"involvedObject", {{"name", object}, {"uid", "uid-" + object}}},
          {"reason", reason},
          {"message", message},
          {"lastTimestamp", time}};
}

json FromKarpenter(json event) {
  event["source"] = {{"component", "karpenter"}};
  event["eventTime"] = nullptr;
  return event;
}

json Unscheduled(const std::string& message) {
  return {{"phase", "Pending"},
          {"conditions",
           {{{"type", "PodScheduled"},
             {"status", "False"},
             {"reason", "Unschedulable"},
             {"message", message}}}}};
}

json Waiting(const std::string& reason, const std::string& message = "") {
  return {{"phase", "Pending"},
          {"containerStatuses",
           {{{"state", {{"waiting", {{"reason", reason}, {"message", message}}}}}}}}};
}

json Ended(int exit_code, const std::string& reason = "Error") {
  return {{"phase", exit_code == 0 ? "Succeeded" : "Failed"},
          {"containerStatuses",
           {{{"state", {{"terminated", {{"exitCode", exit_code}, {"reason", reason}}}}}}}}};
}

const json kJob = {{"metadata", {{"name", "j"}, {"uid", "uid-j"}}}};
const json kOnNode = {{"nodeName", "node-a"}};
const json kNowhere = json::object();

json JobWith(const std::string& type, const std::string& message) {
  json job = kJob;
  job["status"]["conditions"] = {{{"type", type}, {"status", "True"}, {"message", message}}};
  return job;
}

TEST(WhyPodWaits, TellsWhatTheSchedulerMisses) {
  const json pod = Pod("p", kNowhere,
                       Unscheduled("0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 "
                                   "nodes are available: 2 No preemption victims found."));
  const std::string wanted = "pod p has no node yet: 0/2 nodes are available: 2 Insufficient cpu";
  EXPECT_EQ(WhyPodWaits(pod, {}), wanted);
  // Since Kubernetes 1.34.
  const json newer =
      Pod("p", kNowhere,
          Unscheduled("0/2 nodes are available: 2 Insufficient cpu. no new claims to "
                      "deallocate, preemption: 0/2 nodes are available"));
  EXPECT_EQ(WhyPodWaits(newer, {}), wanted);
}

TEST(WhyPodWaits, TakesTheSchedulersEventWhereThePodHasNoCondition) {
  const json pod = Pod("p", kNowhere, {{"phase", "Pending"}});
  EXPECT_EQ(WhyPodWaits(pod, {}), "pod p waits for the scheduler");
  EXPECT_EQ(WhyPodWaits(pod, {Event("p", "FailedScheduling", "no nodes available"),
                              Event("other", "FailedScheduling", "of another pod")}),
            "pod p has no node yet: no nodes available");
}

TEST(WhyPodWaits, TellsWhatTheAutoscalerDoes) {
  const json pod = Pod("p", kNowhere, Unscheduled("no"));
  const auto with = [&](const json& event) { return WhyPodWaits(pod, {event}); };
  EXPECT_EQ(with(Event("p", "TriggeredScaleUp", "pod triggered scale-up: [{g 0->1 (max: 9)}]")),
            "pod p has no node yet: no; the cluster autoscaler adds a node: pod triggered "
            "scale-up: [{g 0->1 (max: 9)}]");
  EXPECT_EQ(with(Event("p", "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max size")),
            "pod p has no node yet: no; the cluster autoscaler adds none: pod didn't trigger "
            "scale-up: 1 max size");
  EXPECT_EQ(with(FromKarpenter(Event("p", "Nominated", "Pod should schedule on: nodeclaim/x"))),
            "pod p has no node yet: no; Karpenter has a node for it: Pod should schedule on: "
            "nodeclaim/x");
  EXPECT_EQ(with(FromKarpenter(Event("p", "FailedScheduling", "no instance type fits"))),
            "pod p has no node yet: no; Karpenter adds none: no instance type fits");
}

TEST(WhyPodWaits, BelievesTheLastWordOfTheAutoscaler) {
  const json pod = Pod("p", kNowhere, Unscheduled("no"));
  const json early = Event("p", "NotTriggerScaleUp", "none", "2026-01-01T00:00:01Z");
  const json late = Event("p", "TriggeredScaleUp", "one", "2026-01-01T00:00:09Z");
  const std::string wanted = "pod p has no node yet: no; the cluster autoscaler adds a node: one";
  EXPECT_EQ(WhyPodWaits(pod, {early, late}), wanted);
  EXPECT_EQ(WhyPodWaits(pod, {late, early}), wanted);
}

TEST(WhyPodWaits, TellsWhyAnImageDoesNotCome) {
  const json pod = Pod("p", kOnNode, Waiting("ImagePullBackOff", "Back-off pulling image \"x\""));
  EXPECT_EQ(WhyPodWaits(pod, {}),
            "pod p on node node-a cannot get its image: Back-off pulling image \"x\"");
  EXPECT_EQ(WhyPodWaits(pod, {Event("p", "Failed", "Failed to pull image \"x\": not found"),
                              Event("p", "Failed", "Error: ErrImagePull")}),
            "pod p on node node-a cannot get its image: Failed to pull image \"x\": not found");
}

TEST(WhyPodWaits, TellsWhatAStartIsAt) {
  const json pod = Pod("p", kOnNode, Waiting("ContainerCreating"));
  EXPECT_EQ(WhyPodWaits(pod, {}), "pod p on node node-a is starting");
  EXPECT_EQ(WhyPodWaits(pod, {Event("p", "Pulling", "Pulling image \"x\"")}),
            "pod p on node node-a is starting: Pulling image \"x\"");
  EXPECT_EQ(WhyPodWaits(Pod("p", kOnNode, Waiting("CreateContainerConfigError", "no Secret")), {}),
            "pod p on node node-a cannot start (CreateContainerConfigError): no Secret");
}

TEST(WhyPodWaits, TellsHowItEnded) {
  EXPECT_EQ(WhyPodWaits(Pod("p", kOnNode, Ended(137, "OOMKilled")), {}),
            "pod p has ended with exit code 137 (OOMKilled)");
  EXPECT_EQ(
      WhyPodWaits(
          Pod("p", kOnNode, {{"phase", "Failed"}, {"reason", "Evicted"}, {"message", "disk"}}), {}),
      "pod p has ended (Evicted): disk");
}

TEST(WhyPodWaits, HasNothingToSayOfARunningPod) {
  EXPECT_EQ(WhyPodWaits(Pod("p", kOnNode, {{"phase", "Running"}}), {}), "");
}

TEST(WhyCoordinatorWaits, TellsOfAQuotaWithoutNamesThatChange) {
  const auto with = [](const char* name) {
    return WhyCoordinatorWaits(
        {kJob,
         {},
         {Event(
             "j", "FailedCreate",
             fmt::format("Error creating: pods \"{}\" is forbidden: exceeded quota: q", name))}});
  };
  EXPECT_EQ(with("j-4hx2p"), "the coordinator's pod cannot be made: exceeded quota: q");
  EXPECT_EQ(with("j-4hx2p"), with("j-9s7cd"));
}

TEST(WhyCoordinatorWaits, ForgetsARefusalOnceThereIsAPod) {
  const json refused = Event("j", "FailedCreate", "exceeded quota: q");
  const json pod = Pod("p", kOnNode, {{"phase", "Running"}});
  EXPECT_EQ(WhyCoordinatorWaits({kJob, {pod}, {refused}}),
            "the coordinator runs in pod p on node node-a and does not answer yet");
}

TEST(WhyCoordinatorWaits, LooksAtThePodThatHasNotEnded) {
  json old = Pod("old", kOnNode, Ended(1));
  old["metadata"]["creationTimestamp"] = "2026-01-01T00:09:00Z";
  EXPECT_EQ(WhyCoordinatorWaits({kJob, {old}, {}}),
            "the coordinator's pod old has ended with exit code 1; its Job makes a new one");
  const json pod = Pod("p", kNowhere, Unscheduled("no"));
  EXPECT_EQ(WhyCoordinatorWaits({kJob, {pod, old}, {}}),
            "the coordinator waits: pod p has no node yet: no");
}

TEST(WhyCoordinatorWaits, TellsOfADeletionAndItsCause) {
  json pod = Pod("p", kOnNode,
                 {{"phase", "Running"},
                  {"conditions",
                   {{{"type", "DisruptionTarget"}, {"status", "True"}, {"message", "eviction"}}}}});
  pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
  EXPECT_EQ(WhyCoordinatorWaits({kJob, {pod}, {}}),
            "the coordinator waits: pod p is being deleted: eviction");
}

TEST(WhyCoordinatorWaits, BearsWhatIsMissingOrOfAnotherType) {
  EXPECT_EQ(WhyCoordinatorWaits({}), "the coordinator's Job is not there");
  EXPECT_EQ(WhyCoordinatorWaits({kJob, {}, {}}), "the coordinator's pod is being made");
  const json odd = {{"metadata", 7}, {"status", {{"conditions", "x"}}}, {"spec", nullptr}};
  EXPECT_EQ(WhyCoordinatorWaits({kJob, {odd}, {odd}}),
            "the coordinator waits: pod  waits for the scheduler");
}

TEST(CoordinatorFailure, IsWhatTheJobSaysForGood) {
  EXPECT_EQ(CoordinatorFailure({kJob, {}, {}}), std::nullopt);
  EXPECT_EQ(CoordinatorFailure({JobWith("Failed", "Job has reached the specified backoff limit"),
                                {Pod("p", kOnNode, Ended(1))},
                                {}}),
            "the coordinator's Job has failed: Job has reached the specified backoff limit; pod p "
            "has ended with exit code 1");
  EXPECT_EQ(CoordinatorFailure({JobWith("Complete", ""), {}, {}}),
            "the coordinator's Job has ended without a result");
}

}  // namespace
}  // namespace muster::kubernetes
