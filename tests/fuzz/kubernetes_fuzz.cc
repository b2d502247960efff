// Kubernetes: what an API server, or whatever answers in its place, may say in a list and a watch, and what a kubeconfig may hold.
//
// Beside the general promises: a stream is cut into the same objects wherever its pieces end; the changes that are told make a
// consistent story (an object is added, modified, deleted, under one uid); an error about a kubeconfig names the file and says what to do.
#include <map>
#include <nlohmann/json.hpp>

#include "k8s/client/api_error.h"
#include "k8s/client/json_fields.h"
#include "k8s/client/json_splitter.h"
#include "k8s/client/kubeconfig.h"
#include "k8s/client/watch_core.h"
#include "tests/fuzz/fuzz.h"

namespace muster::fuzz {
namespace {

using nlohmann::json;

enum class Mode : uint8_t { kWatch, kKubeconfig, kCount };
enum class Step : uint8_t { kStream, kList, kListFails, kEnd, kTick, kWanted, kCount };

constexpr char kFile[] = "/etc/muster/kube.yaml";

class Play {
 public:
  explicit Play(Script& script) : script_(script) {}

  void Run() {
    Tell(k8s::Tick{});
    while (!script_.AtEnd()) {
      switch (static_cast<Step>(script_.Number<uint8_t>() % uint8_t(Step::kCount))) {
        case Step::kStream: {
          const size_t piece = script_.Number<uint8_t>();
          Stream(script_.Bytes(), piece);
          break;
        }
        case Step::kList:
          List(script_.Bytes());
          break;
        case Step::kListFails: {
          const k8s::HttpResponse response{{.status = 300 + script_.Number<uint16_t>() % 300},
                                           std::string(script_.Bytes())};
          k8s::ApiFailure failure = k8s::FailureOf(response, "GET /api");
          CheckError(failure.error);
          if (listing_) Tell(k8s::ListFailed{std::move(failure.error)});
          break;
        }
        case Step::kEnd:
          if (watching_) Tell(k8s::WatchEnded{});
          break;
        case Step::kTick:
          now_ += std::chrono::milliseconds(script_.Number<uint32_t>() % 1'000'000);
          Tell(k8s::Tick{});
          break;
        default:
          Tell(k8s::ListWanted{});
      }
    }
  }

 private:
  // The events of a watch, in pieces of `piece` bytes and as a whole.
  void Stream(std::string_view bytes, size_t piece) {
    k8s::JsonSplitter whole;
    k8s::JsonSplitter pieces;
    whole.Feed(bytes);
    const std::vector<std::string> objects = ObjectsOf(whole);
    std::vector<std::string> same;
    for (size_t at = 0; at < bytes.size(); at += piece + 1) {
      pieces.Feed(bytes.substr(at, piece + 1));
      for (std::string& object : ObjectsOf(pieces)) same.push_back(std::move(object));
      if (same.size() > objects.size()) break;
    }
    MUSTER_CHECK(objects == same, "{} objects, {} in pieces", objects.size(), same.size());
    for (const std::string& object : objects) {
      auto event = k8s::FromText(object, "watch");
      if (!event) CheckError(event.error());
      if (event && watching_) Tell(k8s::WatchEvent{std::move(*event)});
    }
  }

  static std::vector<std::string> ObjectsOf(k8s::JsonSplitter& splitter) {
    std::vector<std::string> objects;
    while (true) {
      auto object = splitter.Next();
      if (!object) CheckError(object.error());
      if (!object || !*object) return objects;
      objects.push_back(std::move(**object));
    }
  }

  // As ApiClient::List takes it apart.
  void List(std::string_view text) {
    auto list = k8s::FromText(text, "GET /api");
    if (!list) return CheckError(list.error());
    const json& items = k8s::At(*list, {"items"});
    if (!listing_ || !items.is_array()) return;
    k8s::ListDone done{.items = items,
                       .resource_version = k8s::StringAt(*list, {"metadata", "resourceVersion"})};
    Tell(done);
  }

  template <typename Input>
  void Tell(const Input& input) {
    const k8s::WatchOutput output = core_.Handle(input, now_);
    if (output.close_watch) watching_ = false;
    if (std::is_same_v<Input, k8s::ListDone> || std::is_same_v<Input, k8s::ListFailed>)
      listing_ = false;
    if (std::is_same_v<Input, k8s::WatchEnded>) watching_ = false;
    MUSTER_CHECK(!output.list || !listing_, "two lists at once");
    MUSTER_CHECK(!output.open_watch || !watching_, "two watches at once");
    listing_ = listing_ || output.list;
    watching_ = watching_ || output.open_watch.has_value();
    for (const k8s::Change& change : output.changes) Follow(change);
    MUSTER_CHECK(core_.size() == uids_.size(), "{} known, {} told", core_.size(), uids_.size());
  }

  void Follow(const k8s::Change& change) {
    const json& object = *change.object;
    const auto text = [&](const char* field) { return k8s::StringAt(object, {"metadata", field}); };
    const std::string key = text("namespace") + "/" + text("name");
    const auto known = uids_.find(key);
    const bool is_known = known != uids_.end();
    switch (change.kind) {
      case k8s::ChangeKind::kAdded:
        MUSTER_CHECK(!is_known, "{} is added twice", key);
        uids_[key] = text("uid");
        return;
      case k8s::ChangeKind::kModified:
        MUSTER_CHECK(is_known && known->second == text("uid"), "{} is another one", key);
        return;
      case k8s::ChangeKind::kDeleted:
        MUSTER_CHECK(is_known, "{} is deleted, and was not there", key);
        uids_.erase(known);
    }
  }

  Script& script_;
  TimePoint now_{};
  k8s::WatchCore core_{{}, 1};
  bool listing_ = false;
  bool watching_ = false;
  std::map<std::string, std::string> uids_;
};

void CheckKubeconfig(std::string_view text) {
  const auto config = k8s::ParseKubeconfig(text, kFile);
  const auto check = [](const Error& error) {
    CheckError(error);
    MUSTER_CHECK(error.message.starts_with(kFile) && !error.hint.empty(), "{}", error.ToString());
  };
  if (!config) return check(config.error());
  std::vector<std::string> contexts{""};
  for (const auto& [name, context] : config->contexts) contexts.push_back(name);
  for (const std::string& context : contexts) {
    const auto chosen = k8s::ChooseContext(*config, context);
    if (!chosen) {
      check(chosen.error());
      continue;
    }
    MUSTER_CHECK(!chosen->cluster.server.empty() && !chosen->namespace_name.empty());
    if (chosen->cluster.exec_config) (void)k8s::ToText(*chosen->cluster.exec_config);
  }
}

json Pod(const std::string& name, const std::string& uid, int version) {
  return {{"kind", "Pod"},
          {"metadata",
           {{"namespace", "ns"},
            {"name", name},
            {"uid", uid},
            {"resourceVersion", fmt::format("{}", version)}}}};
}

json Event(const char* type, const json& object) { return {{"type", type}, {"object", object}}; }

ScriptWriter& Add(ScriptWriter& script, Step step, const json& content) {
  return script.Number(uint8_t(step)).Bytes(content.dump());
}

constexpr std::string_view kKubeconfig = R"(apiVersion: v1
kind: Config
current-context: dev
clusters:
- name: prod
  cluster:
    server: https://10.0.0.1:6443/
    certificate-authority-data: UEVNCg==
    extensions:
    - name: client.authentication.k8s.io/exec
      extension: {audience: "010", deep: [true, 1.5, no]}
users:
- name: me
  user: {token: 010, as: boss, as-groups: [a], as-user-extra: {scope: [x]}}
- name: cloud
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: bin/aws, interactiveMode: Never, env: [{name: A, value: b}]}
contexts:
- name: dev
  context: {cluster: prod, user: me, namespace: ns}
- {name: other, context: {cluster: prod, user: cloud}}
)";

}  // namespace

std::vector<Seed> Seeds() {
  ScriptWriter watch;
  watch.Number(uint8_t(Mode::kWatch));
  Add(watch, Step::kList,
      {{"kind", "PodList"},
       {"metadata", {{"resourceVersion", "10"}}},
       {"items", {Pod("a", "1", 3), Pod("b", "2", 9)}}});
  const std::string events =
      Event("ADDED", Pod("c", "3", 11)).dump() + "\n" +
      R"({"type":"BOOKMARK","note":"\"}{\\","object":{"metadata":{"resourceVersion":"11"}}})" +
      Event("MODIFIED", Pod("a", "1", 12)).dump() + Event("DELETED", Pod("b", "2", 13)).dump() +
      "\n" + Event("ADDED", Pod("a", "4", 14)).dump();
  watch.Number(uint8_t(Step::kStream)).Number(uint8_t{0}).Bytes(events);
  watch.Number(uint8_t(Step::kEnd));
  watch.Number(uint8_t(Step::kTick)).Number(uint32_t{700'000});
  Add(watch, Step::kList,
      {{"metadata", {{"resourceVersion", "20"}}}, {"items", {Pod("c", "3", 11)}}});

  ScriptWriter gone;
  gone.Number(uint8_t(Mode::kWatch));
  Add(gone, Step::kList, {{"metadata", {{"resourceVersion", "5"}}}, {"items", json::array()}});
  const json too_old = {{"kind", "Status"}, {"code", 410}, {"message", "too old"}};
  for (const json& event : {Event("BOOKMARK", Pod("", "", 7)), Event("ERROR", too_old)}) {
    gone.Number(uint8_t(Step::kStream)).Number(uint8_t{30}).Bytes(event.dump());
  }
  gone.Number(uint8_t(Step::kTick)).Number(uint32_t{60'000});
  gone.Number(uint8_t(Step::kListFails)).Number(uint16_t{129});
  gone.Bytes(
      R"({"kind":"Status","reason":"TooManyRequests","message":"wait","details":{"retryAfterSeconds":3}})");
  gone.Number(uint8_t(Step::kWanted));
  ScriptWriter deep;
  deep.Number(uint8_t(Mode::kWatch));
  Add(deep, Step::kList, {{"metadata", {{"resourceVersion", "5"}}}, {"items", json::array()}});
  std::string pod = Pod("a", "1", 6).dump();
  pod.insert(1, "\"x\":" + std::string(30'000, '[') + std::string(30'000, ']') + ",");
  const std::string nested = R"({"type":"ADDED","object":)" + pod + "}";
  deep.Number(uint8_t(Step::kStream)).Number(uint8_t{255}).Bytes(nested);
  return {
      {"watch", watch.bytes()},
      {"nested", deep.bytes()},
      {"gone", gone.bytes()},
      {"kubeconfig", ScriptWriter().Number(uint8_t(Mode::kKubeconfig)).Rest(kKubeconfig).bytes()}};
}

}  // namespace muster::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace muster::fuzz;
  Script script({reinterpret_cast<const char*>(data), size});
  if (static_cast<Mode>(script.Number<uint8_t>() % uint8_t(Mode::kCount)) == Mode::kWatch) {
    Play(script).Run();
  } else {
    CheckKubeconfig(script.Rest());
  }
  return 0;
}
