#include "launcher/platform/kubernetes/pod_view.h"

#include <gtest/gtest.h>

namespace muster::kubernetes {
namespace {

using fleet::PodPhase;
using fleet::PodView;
using nlohmann::json;

// As the API server shows a worker that has been asked for, with what most of our code does not look at.
const char* const kNew = R"({
  "apiVersion": "v1", "kind": "Pod",
  "metadata": {
    "name": "digits-1a2b3-workers-7", "namespace": "research", "uid": "6f1d7a0e-4f0b-4b7e-9d53-1d6c0a3b8f11",
    "resourceVersion": "8123", "creationTimestamp": "2026-03-01T10:00:00Z",
    "labels": {"app.kubernetes.io/component": "worker", "app.kubernetes.io/managed-by": "muster",
               "muster.dev/job": "digits", "muster.dev/pool": "workers", "muster.dev/run": "1a2b3c4d5e6f"},
    "annotations": {"muster.dev/serial": "7"},
    "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "digits-1a2b3", "uid": "u", "controller": true}]},
  "spec": {"containers": [{"name": "worker", "image": "registry.example/muster:1"}], "restartPolicy": "Never",
           "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler"},
  "status": {"phase": "Pending", "qosClass": "Burstable"}})";

PodView With(const json& patch) {
  json pod = json::parse(kNew);
  pod.merge_patch(patch);
  return ViewOfPod(pod);
}

json Worker(const json& state) {
  return {{"name", "worker"}, {"ready", false}, {"restartCount", 0}, {"state", state}};
}

PodView Ended(const char* phase, const json& terminated) {
  return With(
      {{"spec", {{"nodeName", "node-3"}}},
       {"status",
        {{"phase", phase}, {"containerStatuses", {Worker({{"terminated", terminated}})}}}}});
}

TEST(PodView, OfANewPod) {
  const PodView view = With(json::object());
  EXPECT_EQ(view.name, "digits-1a2b3-workers-7");
  EXPECT_EQ(view.uid, "6f1d7a0e-4f0b-4b7e-9d53-1d6c0a3b8f11");
  EXPECT_EQ(view.run, "1a2b3c4d5e6f");
  EXPECT_EQ(view.phase, PodPhase::kPending);
  EXPECT_FALSE(view.terminating);
  EXPECT_EQ(view.exit_code, std::nullopt);
  EXPECT_EQ(view.node + view.disruption + view.unscheduled_reason + view.waiting_reason, "");
}

TEST(PodView, TheSchedulerSaysWhyItWaits) {
  const PodView view =
      With({{"status",
             {{"conditions",
               {{{"type", "PodScheduled"},
                 {"status", "False"},
                 {"reason", "Unschedulable"},
                 {"message", "0/5 nodes are available: 5 Insufficient nvidia.com/gpu."}}}}}}});
  EXPECT_EQ(view.unscheduled_reason, "Unschedulable");
  EXPECT_EQ(view.unscheduled_message, "0/5 nodes are available: 5 Insufficient nvidia.com/gpu.");
  const PodView placed =
      With({{"status", {{"conditions", {{{"type", "PodScheduled"}, {"status", "True"}}}}}}});
  EXPECT_EQ(placed.unscheduled_reason, "");
}

TEST(PodView, AnImageThatCannotBeHadIsNamedBeforeOrdinaryWaits) {
  const json usual = {{"name", "istio"}, {"state", {{"waiting", {{"reason", "PodInitializing"}}}}}};
  const json pull =
      Worker({{"waiting",
               {{"reason", "ImagePullBackOff"},
                {"message", "Back-off pulling image \"registry.example/muster:1\""}}}});
  for (const json& statuses : {json{usual, pull}, json{pull, usual}}) {
    const PodView view = With({{"status", {{"containerStatuses", statuses}}}});
    EXPECT_EQ(view.waiting_reason, "ImagePullBackOff");
    EXPECT_EQ(view.waiting_message, "Back-off pulling image \"registry.example/muster:1\"");
  }
  const PodView init =
      With({{"status", {{"initContainerStatuses", {pull}}, {"containerStatuses", {usual}}}}});
  EXPECT_EQ(init.waiting_reason, "ImagePullBackOff");
  EXPECT_EQ(With({{"status", {{"containerStatuses", {usual}}}}}).waiting_reason, "PodInitializing");
}

TEST(PodView, ARunningPod) {
  const PodView view =
      With({{"spec", {{"nodeName", "node-3"}}},
            {"status",
             {{"phase", "Running"},
              {"podIP", "10.1.2.3"},
              {"containerStatuses",
               {Worker({{"running", {{"startedAt", "2026-03-01T10:00:05Z"}}}})}}}}});
  EXPECT_EQ(view.phase, PodPhase::kRunning);
  EXPECT_EQ(view.node, "node-3");
  EXPECT_EQ(view.exit_code, std::nullopt);
}

TEST(PodView, ThePhaseUnknownOfASilentNodeIsNoEndAndNoWayBack) {
  EXPECT_EQ(With({{"status", {{"phase", "Unknown"}}}}).phase, PodPhase::kRunning);
}

TEST(PodView, HowItEnded) {
  const PodView good = Ended("Succeeded", {{"exitCode", 0}, {"reason", "Completed"}});
  EXPECT_EQ(good.phase, PodPhase::kSucceeded);
  EXPECT_EQ(good.exit_code, 0);
  EXPECT_EQ(good.exit_reason, "Completed");
  const PodView bad = Ended("Failed", {{"exitCode", 3}, {"reason", "Error"}});
  EXPECT_EQ(bad.phase, PodPhase::kFailed);
  EXPECT_EQ(bad.exit_code, 3);
  EXPECT_EQ(bad.signal, 0);
}

TEST(PodView, AnExitCodeAbove128IsASignal) {
  const PodView killed = Ended("Failed", {{"exitCode", 137}, {"reason", "OOMKilled"}});
  EXPECT_EQ(killed.signal, 9);
  EXPECT_EQ(killed.exit_reason, "OOMKilled");
  EXPECT_EQ(Ended("Failed", {{"exitCode", 139}}).signal, 11);
  EXPECT_EQ(Ended("Failed", {{"exitCode", 128}}).signal, 0);
  EXPECT_EQ(Ended("Failed", {{"exitCode", 255}}).signal, 0) << "exit(-1)";
  EXPECT_EQ(Ended("Failed", {{"exitCode", 137}, {"signal", 15}}).signal, 15);
}

TEST(PodView, AWorkerThatHasEndedBesideASidecarThatGoesOnHasEnded) {
  const json sidecar = {{"name", "istio"}, {"state", {{"running", json::object()}}}};
  const json failed = Worker({{"terminated", {{"exitCode", 1}, {"reason", "Error"}}}});
  const PodView view =
      With({{"status", {{"phase", "Running"}, {"containerStatuses", {sidecar, failed}}}}});
  EXPECT_EQ(view.phase, PodPhase::kFailed);
  EXPECT_EQ(view.exit_code, 1);
  // The other way round nothing has ended.
  json ended = sidecar;
  ended["state"] = {{"terminated", {{"exitCode", 1}}}};
  const json running = Worker({{"running", json::object()}});
  const PodView goes_on =
      With({{"status", {{"phase", "Running"}, {"containerStatuses", {ended, running}}}}});
  EXPECT_EQ(goes_on.phase, PodPhase::kRunning);
  EXPECT_EQ(goes_on.exit_code, std::nullopt);
}

TEST(PodView, AnEvictionIsTold) {
  const PodView view = With(
      {{"metadata",
        {{"deletionTimestamp", "2026-03-01T11:00:00Z"}, {"deletionGracePeriodSeconds", 30}}},
       {"status",
        {{"phase", "Failed"},
         {"reason", "Evicted"},
         {"message", "The node was low on resource: memory."},
         {"conditions",
          {{{"type", "DisruptionTarget"}, {"status", "True"}, {"reason", "TerminationByKubelet"}},
           {{"type", "Ready"}, {"status", "False"}}}}}}});
  EXPECT_TRUE(view.terminating);
  EXPECT_EQ(view.disruption, "TerminationByKubelet");
  EXPECT_EQ(view.exit_reason, "Evicted");
  const PodView none =
      With({{"status", {{"conditions", {{{"type", "DisruptionTarget"}, {"status", "False"}}}}}}});
  EXPECT_EQ(none.disruption, "");
}

TEST(PodView, WhatIsNotAsItShouldBeReadsAsNothing) {
  for (const json& pod : {json(), json(7), json::object(), json{{"metadata", 1}, {"status", "x"}},
                          json{{"status", {{"conditions", 3}, {"containerStatuses", {{"a", 1}}}}}},
                          json{{"status", {{"conditions", {1, "x", nullptr}}}}}}) {
    const PodView view = ViewOfPod(pod);
    EXPECT_EQ(view.name + view.uid + view.run + view.disruption + view.waiting_reason, "") << pod;
    EXPECT_EQ(view.phase, PodPhase::kPending) << pod;
  }
}

}  // namespace
}  // namespace muster::kubernetes
