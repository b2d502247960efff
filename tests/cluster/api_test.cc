// k8s/client against a real API server: what a server of ours can only pretend. tests/cluster/api_server_test.py starts the
// cluster, and this program with its KUBECONFIG.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdlib>
#include <map>
#include <thread>

#include "k8s/client/api_client.h"
#include "k8s/client/config_loader.h"
#include "k8s/client/informer.h"
#include "runtime/base/check.h"
#include "runtime/base/thread_annotations.h"
#include "tests/cluster/must.h"

namespace muster::k8s {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::HasSubstr;

const Resource kNamespaces{.plural = "namespaces", .namespaced = false};
const Resource kQuotas{.plural = "resourcequotas"};

Call Soon() { return {.deadline = MonotonicNow() + 60s}; }

template <typename T>
Code CodeOf(const Result<T>& result) {
  return result ? Code{} : result.error().code;
}

json ConfigMap(const std::string& name, const json& data, const json& labels = json::object()) {
  return {{"apiVersion", "v1"},
          {"kind", "ConfigMap"},
          {"metadata", {{"name", name}, {"labels", labels}}},
          {"data", data}};
}

// Each test has a namespace of its own, with the Pod Security level that clusters recommend.
class RealServer : public ::testing::TestWithParam<bool> {
 protected:
  RealServer() {
    const char* test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    space_ = fmt::format("t{}", std::hash<std::string>{}(test) % 1'000'000'000);
    const char* kubeconfig = std::getenv("KUBECONFIG");
    // Nothing is looked for elsewhere: what a user's own files lead to is no test cluster.
    MUSTER_CHECK(kubeconfig != nullptr, "KUBECONFIG names the test cluster");
    ClientConfig config =
        Must(LoadClientConfig({.kubeconfig = kubeconfig}, ConfigEnvironment::OfThisProcess()));
    config_ = config;
    admin_ = Must(ApiClient::Create(std::move(config), {.http2 = GetParam()}));
    Must(admin_->Create(
        {.resource = kNamespaces},
        {{"metadata",
          {{"name", space_}, {"labels", {{"pod-security.kubernetes.io/enforce", "restricted"}}}}}},
        {}, Soon()));
  }
  ~RealServer() override {
    (void)admin_->Delete({.resource = kNamespaces, .name = space_}, {}, Soon());
  }

  ObjectRef In(const Resource& resource, const std::string& name = "") const {
    return {.resource = resource, .namespace_name = space_, .name = name};
  }
  ObjectRef Map(const std::string& name = "") const { return In(kConfigMaps, name); }

  // A client with nothing but the rights of a new service account, by a token for it.
  std::unique_ptr<ApiClient> ClientOfServiceAccount(const std::string& name) {
    Must(admin_->Create(In(kServiceAccounts), {{"metadata", {{"name", name}}}}, {}, Soon()));
    ObjectRef token = In(kServiceAccounts, name);
    token.subresource = "token";
    const json answer = Must(admin_->Create(token,
                                            {{"apiVersion", "authentication.k8s.io/v1"},
                                             {"kind", "TokenRequest"},
                                             {"spec", json::object()}},
                                            {}, Soon()));
    ClientConfig config = config_;
    config.user = {};
    config.user.token = answer.value("/status/token"_json_pointer, "");
    return Must(ApiClient::Create(std::move(config), {.http2 = GetParam()}));
  }

  ClientConfig config_;
  std::string space_;
  std::unique_ptr<ApiClient> admin_;
};

INSTANTIATE_TEST_SUITE_P(, RealServer, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Http2" : "Http1"; });

TEST_P(RealServer, ObjectsAreMadeReadChangedAndDeleted) {
  const json made = Must(admin_->Create(Map(), ConfigMap("m", {{"a", "1"}}), {}, Soon()));
  EXPECT_EQ(CodeOf(admin_->Create(Map(), ConfigMap("m", {}), {}, Soon())), Code::kAlreadyExists);
  EXPECT_EQ(CodeOf(admin_->Get(Map("other"), Soon())), Code::kNotFound);

  const json patched =
      Must(admin_->Patch(Map("m"), PatchKind::kMerge, {{"data", {{"b", "2"}}}}, {}, Soon()));
  EXPECT_EQ(patched["data"], (json{{"a", "1"}, {"b", "2"}}));

  json old = made;
  old["data"]["a"] = "stale";
  EXPECT_EQ(CodeOf(admin_->Replace(Map("m"), old, {}, Soon())), Code::kAborted)
      << "its resourceVersion is not the object's any more";
  json current = Must(admin_->Get(Map("m"), Soon()));
  current["data"]["a"] = "3";
  EXPECT_EQ(Must(admin_->Replace(Map("m"), current, {}, Soon()))["data"]["a"], "3");

  EXPECT_EQ(CodeOf(admin_->Delete(Map("m"), {.uid = "another"}, Soon())), Code::kAborted);
  const std::string uid = made["metadata"]["uid"];
  EXPECT_TRUE(admin_->Delete(Map("m"), {.uid = uid}, Soon()).has_value());
  EXPECT_EQ(CodeOf(admin_->Delete(Map("m"), {.uid = uid}, Soon())), Code::kNotFound);
}

TEST_P(RealServer, ApplyKeepsWhatAnotherManagerHasSetUnlessForced) {
  const json mine = {{"apiVersion", "v1"}, {"kind", "ConfigMap"}, {"data", {{"a", "mine"}}}};
  const json theirs = {{"apiVersion", "v1"}, {"kind", "ConfigMap"}, {"data", {{"a", "theirs"}}}};
  Must(admin_->Apply(Map("m"), mine, false, {.field_manager = "one"}, Soon()));
  const auto refused = admin_->Apply(Map("m"), theirs, false, {.field_manager = "two"}, Soon());
  ASSERT_EQ(CodeOf(refused), Code::kAborted);
  EXPECT_THAT(refused.error().message, HasSubstr("one"));
  EXPECT_EQ(
      Must(admin_->Apply(Map("m"), theirs, true, {.field_manager = "two"}, Soon()))["data"]["a"],
      "theirs");
}

TEST_P(RealServer, ADryRunChangesNothing) {
  EXPECT_EQ(Must(admin_->Create(Map(), ConfigMap("m", {}), {.dry_run = true},
                                Soon()))["metadata"]["name"],
            "m");
  EXPECT_EQ(CodeOf(admin_->Get(Map("m"), Soon())), Code::kNotFound);
}

TEST_P(RealServer, ListsComeInPagesAndSelected) {
  const std::string filler(4000, 'x');  // so that the server compresses the pages
  for (int i = 0; i < 120; ++i) {
    const json labels = {{"parity", i % 2 == 0 ? "even" : "odd"}};
    Must(admin_->Create(Map(), ConfigMap(fmt::format("m-{}", i), {{"filler", filler}}, labels), {},
                        Soon()));
  }
  const ObjectList even = Must(
      admin_->List(kConfigMaps, space_, {.label_selector = "parity=even", .page_size = 7}, Soon()));
  EXPECT_EQ(even.items.size(), 60U);
  for (const json& item : even.items) {
    EXPECT_EQ(item["metadata"]["labels"]["parity"], "even");
    EXPECT_EQ(item["data"]["filler"], filler);
    EXPECT_FALSE(item["metadata"].contains("managedFields"));
  }
}

TEST_P(RealServer, APodThatIsNotRestrictedIsRefusedWithTheReason) {
  const auto refused = admin_->Create(
      In(kPods),
      {{"metadata", {{"name", "p"}}},
       {"spec",
        {{"containers",
          {{{"name", "c"}, {"image", "i"}, {"securityContext", {{"privileged", true}}}}}}}}},
      {}, Soon());
  ASSERT_EQ(CodeOf(refused), Code::kPermissionDenied);
  EXPECT_THAT(refused.error().message, HasSubstr("violates PodSecurity \"restricted"));
}

TEST_P(RealServer, AQuotaIsNamed) {
  Must(admin_->Create(
      In(kQuotas),
      {{"metadata", {{"name", "none"}}}, {"spec", {{"hard", {{"count/configmaps", "0"}}}}}}, {},
      Soon()));
  // The quota counts once its controller has seen it.
  Result<json> made;
  do {
    made = admin_->Create(Map(), ConfigMap("m", {}), {.dry_run = true}, Soon());
  } while (made || made.error().message.find("status unknown for quota") != std::string::npos);
  EXPECT_EQ(made.error().code, Code::kResourceExhausted);
  EXPECT_THAT(made.error().message, HasSubstr("exceeded quota: none"));
}

TEST_P(RealServer, AServiceAccountMayOnlyWhatItsRoleSays) {
  const auto client = ClientOfServiceAccount("reader");
  Must(admin_->Create(Map(), ConfigMap("m", {{"a", "1"}}), {}, Soon()));
  const auto refused = client->Get(Map("m"), Soon());
  ASSERT_EQ(CodeOf(refused), Code::kPermissionDenied);
  EXPECT_THAT(refused.error().message, HasSubstr("cannot get resource \"configmaps\""));

  Must(admin_->Create(
      In(kRoles),
      {{"metadata", {{"name", "r"}}},
       {"rules", {{{"apiGroups", {""}}, {"resources", {"configmaps"}}, {"verbs", {"get"}}}}}},
      {}, Soon()));
  Must(admin_->Create(
      In(kRoleBindings),
      {{"metadata", {{"name", "b"}}},
       {"roleRef", {{"apiGroup", "rbac.authorization.k8s.io"}, {"kind", "Role"}, {"name", "r"}}},
       {"subjects", {{{"kind", "ServiceAccount"}, {"name", "reader"}, {"namespace", space_}}}}},
      {}, Soon()));
  // The server's authoriser learns of new roles by a watch of its own.
  Result<json> got;
  const TimePoint deadline = MonotonicNow() + 30s;
  do {
    got = client->Get(Map("m"), Soon());
  } while (!got && MonotonicNow() < deadline);
  EXPECT_EQ(Must(std::move(got))["data"]["a"], "1");
  EXPECT_EQ(CodeOf(client->Delete(Map("m"), {}, Soon())), Code::kPermissionDenied);
}

TEST_P(RealServer, AWrongTokenIsToldApartFromALackOfRights) {
  ClientConfig config = config_;
  config.user = {};
  config.user.token = "not-a-token";
  const auto client = Must(ApiClient::Create(std::move(config)));
  EXPECT_EQ(CodeOf(client->Get(Map("m"), Soon())), Code::kUnauthenticated);
}

// The names that an informer knows, each with its value "a", to be waited for.
class Known {
 public:
  void Take(const WatchUpdate& update) {
    MutexLock lock(mutex_);
    for (const Change& change : update.changes) {
      const json& object = *change.object;
      const std::string name = object["metadata"]["name"];
      if (change.kind == ChangeKind::kDeleted) {
        values_.erase(name);
      } else {
        values_[name] = object["data"]["a"];
      }
    }
    changed_.notify_all();
  }
  // Everything, once it is `wanted`, or after a minute.
  std::map<std::string, std::string> Await(const std::map<std::string, std::string>& wanted) {
    MutexLock lock(mutex_);
    changed_.wait_for(mutex_, 60s, [&]() REQUIRES(mutex_) { return values_ == wanted; });
    return values_;
  }

 private:
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::string, std::string> values_ GUARDED_BY(mutex_);
};

using Values = std::map<std::string, std::string>;

TEST_P(RealServer, AnInformerKeepsUp) {
  const json labels = {{"seen", "yes"}};
  Must(admin_->Create(Map(), ConfigMap("before", {{"a", "0"}}, labels), {}, Soon()));
  Must(admin_->Create(Map(), ConfigMap("unseen", {{"a", "0"}}), {}, Soon()));
  Known known;
  const Informer informer(
      admin_.get(),
      {.resource = kConfigMaps, .namespace_name = space_, .label_selector = "seen=yes"},
      [&](const WatchUpdate& update) { known.Take(update); });
  const Values first = {{"before", "0"}};
  EXPECT_EQ(known.Await(first), first);

  Values all = first;
  for (int i = 0; i < 20; ++i) {
    const std::string name = fmt::format("m-{}", i);
    Must(admin_->Create(Map(), ConfigMap(name, {{"a", "1"}}, labels), {}, Soon()));
    all[name] = "1";
  }
  EXPECT_EQ(known.Await(all), all);

  Must(admin_->Patch(Map("m-3"), PatchKind::kMerge, {{"data", {{"a", "2"}}}}, {}, Soon()));
  Must(admin_->Patch(Map("m-4"), PatchKind::kMerge,
                     {{"metadata", {{"labels", {{"seen", nullptr}}}}}}, {}, Soon()));
  ASSERT_TRUE(admin_->Delete(Map("before"), {}, Soon()).has_value());
  all["m-3"] = "2";
  all.erase("m-4");  // it does not match any more
  all.erase("before");
  EXPECT_EQ(known.Await(all), all);
}

TEST_P(RealServer, WatchesThatTheServerEndsAndListsOfATimerLoseNothing) {
  Known known;
  const Informer informer(admin_.get(),
                          {.resource = kConfigMaps,
                           .namespace_name = space_,
                           .label_selector = "n",
                           .times = {.relist_period = 2s},
                           .watch_timeout = 1s},
                          [&](const WatchUpdate& update) { known.Take(update); });
  Values all;
  const TimePoint end = MonotonicNow() + 6s;  // several ends of the watch, and several lists
  for (int i = 0; MonotonicNow() < end; ++i) {
    const std::string name = fmt::format("m-{}", i);
    Must(admin_->Create(Map(), ConfigMap(name, {{"a", "1"}}, {{"n", "1"}}), {}, Soon()));
    all[name] = "1";
  }
  EXPECT_EQ(known.Await(all), all);
}

// The new server knows nothing of the moments before it: it answers 410, and all is listed again.
TEST_P(RealServer, AnInformerLivesThroughTheDeathOfTheServer) {
  const char* kill = std::getenv("MUSTER_KILL_API_SERVER");
  ASSERT_NE(kill, nullptr) << "a command that kills the API server, which is started again";
  Known known;
  const Informer informer(
      admin_.get(), {.resource = kConfigMaps, .namespace_name = space_, .label_selector = "n"},
      [&](const WatchUpdate& update) { known.Take(update); });
  Values all;
  const auto add = [&](const std::string& name) {
    const auto made =
        admin_->Create(Map(), ConfigMap(name, {{"a", "1"}}, {{"n", "1"}}), {}, Soon());
    EXPECT_TRUE(made || made.error().code == Code::kAlreadyExists) << made.error().message;
    all[name] = "1";
  };
  add("before");
  EXPECT_EQ(known.Await(all), all);
  ASSERT_EQ(std::system(kill), 0);
  add("after");  // tried again until the server is back
  ASSERT_TRUE(admin_->Delete(Map("before"), {}, Soon()).has_value());
  all.erase("before");
  EXPECT_EQ(known.Await(all), all);
}

TEST_P(RealServer, ManyThreadsShareAClient) {
  constexpr int kThreads = 8;
  constexpr int kEach = 25;
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < kEach; ++i) {
          Must(admin_->Create(
              Map(), ConfigMap(fmt::format("m-{}-{}", thread, i), {{"a", "1"}}, {{"n", "1"}}), {},
              Soon()));
        }
      });
    }
  }
  EXPECT_EQ(Must(admin_->List(kConfigMaps, space_, {.label_selector = "n"}, Soon())).items.size(),
            size_t{kThreads} * kEach);
}

}  // namespace
}  // namespace muster::k8s
