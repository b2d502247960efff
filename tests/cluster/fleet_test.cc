// The record of a run and the shell of its fleet against a real API server, with nodes on paper. tests/cluster/fleet_test.py starts the
// cluster, and this program with its KUBECONFIG.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "k8s/client/config_loader.h"
#include "launcher/platform/kubernetes/fleet_answers.h"
#include "launcher/platform/kubernetes/fleet_json.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/testing/heard.h"
#include "runtime/base/check.h"
#include "tests/cluster/must.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using k8s::ApiClient;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const k8s::Resource kNamespaces{.plural = "namespaces", .namespaced = false};
const k8s::Resource kQuotas{.plural = "resourcequotas"};

TimePoint Soon() { return MonotonicNow() + 60s; }

const char* Need(const char* variable) {
  const char* value = std::getenv(variable);
  MUSTER_CHECK(value != nullptr, "{} is not set", variable);
  return value;
}

// Each test has a run of its own, in a namespace of its own with the Pod Security level that clusters recommend.
class RealFleet : public ::testing::Test {
 protected:
  RealFleet() {
    const char* test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    run_.namespace_name = fmt::format("f{}", std::hash<std::string>{}(test) % 1'000'000'000);
    run_.spec.name = "digits";
    run_.spec.id = "1a2b3c4d5e6f708192a3b4c5d6e7f809";
    run_.spec.executable = "/bin/digits";
    run_.spec.cwd = "/";
    run_.spec.argv = {"digits"};
    run_.spec.min_workers = 1;
    run_.spec.max_workers = 3;
    run_.image = "registry.example/muster:1";
    run_.coordinator_ip = "10.0.0.1";
    const k8s::ClientConfig config = Must(k8s::LoadClientConfig(
        {.kubeconfig = Need("KUBECONFIG")}, k8s::ConfigEnvironment::OfThisProcess()));
    client_ = Must(ApiClient::Create(
        config, {.http2 = false, .max_connections = kRequestThreads + kSpareConnections}));
    Must(client_->Create({.resource = kNamespaces},
                         {{"metadata",
                           {{"name", run_.namespace_name},
                            {"labels", {{"pod-security.kubernetes.io/enforce", "restricted"}}}}}},
                         {}, {.deadline = Soon()}));
    Must(client_->Create({k8s::kConfigMaps, run_.namespace_name}, json(RunConfigMap(run_)), {},
                         {.deadline = Soon()}));
  }
  ~RealFleet() override {
    shell_.reset();
    (void)client_->Delete({.resource = kNamespaces, .name = run_.namespace_name}, {},
                          {.deadline = Soon()});
  }

  void Kubectl(const std::string& arguments) const {
    const std::string command = fmt::format("{} -n {} {} >/dev/null", Need("MUSTER_KUBECTL"),
                                            run_.namespace_name, arguments);
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }
  Result<std::unique_ptr<RunRecord>> TakeOver() {
    return RunRecord::TakeOver(*client_, run_.namespace_name, RunName(run_.spec), Soon());
  }
  void Start(int workers) {
    run_.spec.max_workers = workers;
    record_ = Must(TakeOver());
    ASSERT_NE(record_, nullptr);
    FleetShellOptions options;
    options.run = run_;
    options.fleet = FleetOptionsOf(run_);
    const auto saved = record_->data().find(std::string(kFleetKey));
    if (saved != record_->data().end()) {
      options.saved = Must(fleet::FleetSavedFromJson(saved->second));
    }
    shell_ = std::make_unique<FleetShell>(*client_, *record_, options, heard_);
  }
  json Status() { return json::parse(shell_->StatusJson()); }
  // The serials of the pods that are there.
  std::set<int> Pods() {
    const auto list =
        Must(client_->List(k8s::kPods, run_.namespace_name, {}, {.deadline = Soon()}));
    std::set<int> serials;
    for (const json& pod : list.items) {
      const std::string name = pod["metadata"]["name"];
      serials.insert(std::stoi(name.substr(name.rfind('-') + 1)));
    }
    return serials;
  }
  // Looks every so often: the status of a thousand pods is long.
  bool AwaitStatus(const std::function<bool(const json&)>& holds, Duration every = 5ms) {
    const TimePoint deadline = Soon();
    while (!holds(Status())) {
      if (MonotonicNow() > deadline) return false;
      heard_.Await([](const Story&) { return false; }, every);
    }
    return true;
  }
  bool AwaitRunning(int count) {
    return AwaitStatus([count](const json& status) {
      const json& pool = status["pools"][0];
      return pool["running"] == count && pool["leaving"] == 0 && status["waiting"].empty();
    });
  }
  std::string Worker(int serial) const { return WorkerName(run_.spec, "workers", serial); }

  ClusterRun run_;
  std::unique_ptr<ApiClient> client_;
  Heard heard_;
  std::unique_ptr<RunRecord> record_;
  std::unique_ptr<FleetShell> shell_;
};

TEST_F(RealFleet, TheSecondCoordinatorFencesTheFirstAndUsersFenceNobody) {
  const auto first = Must(TakeOver());
  EXPECT_EQ(first->epoch(), 1U);
  Kubectl(fmt::format("annotate configmap {} note=x", RunName(run_.spec)));
  EXPECT_TRUE(first->Put({{"state", "a"}}, Soon()));
  const auto second = Must(TakeOver());
  EXPECT_EQ(second->epoch(), 2U);
  EXPECT_EQ(second->data().at("state"), "a");
  const auto refused = first->Put({{"state", "b"}}, Soon());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kFailedPrecondition);
  EXPECT_TRUE(second->Put({{"state", "c"}, {"events", std::string(500'000, 'e')}}, Soon()));
  // The limit is the server's.
  EXPECT_EQ(second->Put({{"status", std::string(600'000, 's')}}, Soon()).error().code,
            Code::kInvalidArgument);
  size_t total = 0;
  for (const auto& [key, value] : second->data()) total += value.size();
  const std::string rest(kMaxRecordBytes - total - 500'000 - 1, 's');
  EXPECT_TRUE(second->Put({{"status", rest}}, Soon()));
  Kubectl(fmt::format("delete configmap {}", RunName(run_.spec)));
  EXPECT_EQ(second->Put({{"state", "d"}}, Soon()).error().code, Code::kNotFound);
  EXPECT_EQ(TakeOver().error().code, Code::kNotFound);
}

TEST_F(RealFleet, PodsComeGoAndAreReplaced) {
  Start(3);
  ASSERT_TRUE(AwaitRunning(3)) << Status();
  EXPECT_EQ(Pods(), (std::set{1, 2, 3}));
  shell_->MembersChanged({"workers-1", "workers-2", "workers-3"});
  ASSERT_TRUE(AwaitStatus([](const json& s) { return s["phase"] == "running"; }));

  Kubectl("delete pod " + Worker(2));
  heard_.Await([](const Story& story) { return !story.lost.empty(); });
  ASSERT_TRUE(AwaitRunning(3)) << Status();
  EXPECT_EQ(Pods(), (std::set{1, 3, 4}));
  EXPECT_THAT(heard_.story().lost, ElementsAre(HasSubstr("workers-2")));

  shell_->Resize(1, 5);
  ASSERT_TRUE(AwaitRunning(5)) << Status();
  EXPECT_EQ(Pods(), (std::set{1, 3, 4, 5, 6}));
  shell_->Resize(1, 2);
  ASSERT_TRUE(AwaitRunning(2)) << Status();
  EXPECT_EQ(Pods(), (std::set{1, 3})) << "those in the ring stay";
  EXPECT_THAT(heard_.story().slots, ElementsAre("workers-1", "workers-3"));

  shell_->Stop("the job has ended");
  EXPECT_TRUE(shell_->WaitUntilDone(Soon())) << Status();
  EXPECT_THAT(Pods(), IsEmpty());
  EXPECT_EQ(heard_.story().Notes("api-fault"), 0);
}

TEST_F(RealFleet, TheNextCoordinatorGoesOnWithThePodsOfTheOneBefore) {
  Start(3);
  ASSERT_TRUE(AwaitRunning(3)) << Status();
  shell_->MembersChanged({"workers-1", "workers-2", "workers-3"});
  ASSERT_TRUE(AwaitStatus([](const json& s) { return s["phase"] == "running"; }));
  shell_.reset();
  Kubectl("delete pod " + Worker(1));
  Start(3);
  shell_->MembersChanged({"workers-2", "workers-3"});
  ASSERT_TRUE(AwaitRunning(3)) << Status();
  EXPECT_EQ(Pods(), (std::set{2, 3, 65})) << "no name is given out twice";
}

TEST_F(RealFleet, AQuotaIsToldAndWaitedFor) {
  Must(client_->Create({kQuotas, run_.namespace_name},
                       {{"metadata", {{"name", "few"}}}, {"spec", {{"hard", {{"pods", "2"}}}}}}, {},
                       {.deadline = Soon()}));
  Start(3);
  ASSERT_TRUE(AwaitStatus([](const json& status) {
    const std::string note = status["pools"][0]["note"];
    return note.find("exceeded quota: few") != note.npos && status["pools"][0]["running"] == 2;
  })) << Status();
  EXPECT_EQ(heard_.story().Notes("api-fault"), 0);
  Kubectl("delete resourcequota few");
  ASSERT_TRUE(AwaitRunning(3)) << Status();
}

TEST_F(RealFleet, APodWithAnotherUidIsGone) {
  Start(1);
  ASSERT_TRUE(AwaitRunning(1)) << Status();
  k8s::ApiFailure failure;
  EXPECT_FALSE(client_->Delete({k8s::kPods, run_.namespace_name, Worker(1)}, {.uid = "another"},
                               {.deadline = Soon(), .failure = &failure}));
  EXPECT_EQ(DeleteFailed(Worker(1), "another", failure).result,
            fleet::DeleteAnswered::Result::kNotFound)
      << failure.error.message;
}

TEST_F(RealFleet, TheDeletionOfTheRunEndsItsCoordinator) {
  Start(3);
  ASSERT_TRUE(AwaitRunning(3)) << Status();
  Kubectl(fmt::format("delete configmap {}", RunName(run_.spec)));
  EXPECT_FALSE(record_->Put({{"status", "x"}}, Soon()));
  const Story story = heard_.Await([](const Story& s) { return !s.ends.empty(); });
  EXPECT_THAT(story.ends, ElementsAre(HasSubstr("fenced: the run has been deleted")));
}

TEST_F(RealFleet, TheDeathOfTheServerLosesAndDuplicatesNothing) {
  Start(3);
  ASSERT_TRUE(AwaitRunning(3)) << Status();
  shell_->MembersChanged({"workers-1", "workers-2", "workers-3"});
  shell_->Resize(1, 40);  // many creates are under way when it dies
  ASSERT_EQ(std::system(Need("MUSTER_KILL_API_SERVER")), 0);
  ASSERT_TRUE(AwaitRunning(40)) << Status();
  EXPECT_EQ(Pods().size(), 40U);
  EXPECT_THAT(heard_.story().lost, IsEmpty());
  EXPECT_GE(heard_.story().Notes("api-fault"), 1);
  EXPECT_TRUE(record_->Ours());
}

// tests/bench/cluster_bench.py asks for more of them.
TEST_F(RealFleet, ManyPods) {
  const char* wanted = std::getenv("MUSTER_FLEET_PODS");
  const int count = wanted != nullptr ? std::atoi(wanted) : 200;
  const TimePoint begin = MonotonicNow();
  Start(count);
  ASSERT_TRUE(AwaitStatus(
      [count](const json& status) {
        const json& pool = status["pools"][0];
        for (const json& pod : status["waiting"]) {
          if (pod["why"].get<std::string>().starts_with("asked for")) return false;
        }
        return pool["running"].get<int>() + pool["waiting"].get<int>() == count;
      },
      100ms))
      << Status();
  const double acknowledged = Seconds(MonotonicNow() - begin);
  ASSERT_TRUE(AwaitRunning(count)) << Status();
  fmt::print("{} pods: acknowledged after {:.2f} s, all run after {:.2f} s\n", count, acknowledged,
             Seconds(MonotonicNow() - begin));
  EXPECT_EQ(Pods().size(), static_cast<size_t>(count));
  const TimePoint stopped = MonotonicNow();
  shell_->Stop("the job has ended");
  EXPECT_TRUE(shell_->WaitUntilDone(Soon())) << Status();
  fmt::print("{} pods: gone {:.2f} s after the stop\n", count, Seconds(MonotonicNow() - stopped));
  EXPECT_THAT(Pods(), IsEmpty());
}

}  // namespace
}  // namespace muster::kubernetes
