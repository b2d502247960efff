// Scene: drives a FleetCore through a story, step by step, for its unit tests.
//
// Threading: none; for tests.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "launcher/platform/kubernetes/fleet_core.h"

namespace muster::fleet {

// One pool "a".
inline FleetOptions Options(int min, int max) {
  FleetOptions options;
  options.run = "r1";
  options.pod_prefix = "run";
  options.pools = {{"a", {min, max}, {}}};
  return options;
}

class Scene {
 public:
  explicit Scene(FleetOptions options, FleetSaved saved = {})
      : core_(std::move(options), std::move(saved)) {}

  void Do(const FleetEvent& event) { decision_ = core_.Handle(event, now_); }
  void Pass(Duration time) {
    now_ += time;
    Do(TimePassed{});
  }

  PodView View(const std::string& name, PodPhase phase) const {
    PodView view;
    view.name = name;
    view.uid = "uid-" + name;
    view.run = "r1";
    view.phase = phase;
    return view;
  }
  void See(const std::string& name, PodPhase phase, bool terminating = false) {
    PodView view = View(name, phase);
    view.terminating = terminating;
    Do(PodSeen{view});
  }
  void Runs(const std::string& name) { See(name, PodPhase::kRunning); }
  void Answer(const std::string& name, CreateAnswered::Result result = CreateAnswered::Result::kOk,
              const std::string& message = "", Duration retry_after = {}) {
    const bool exists = result == CreateAnswered::Result::kOk;
    Do(CreateAnswered{name, result, exists ? "uid-" + name : "", message, retry_after});
  }
  // The pods 1 to `count` of pool "a" are asked for and run.
  void Grow(int count) {
    Do(TimePassed{});
    for (int i = 1; i <= count; ++i) {
      Answer("run-a-" + std::to_string(i));
      Runs("run-a-" + std::to_string(i));
    }
  }
  // A list of the pods of pool "a" with these serials, all running.
  void List(const std::vector<int>& serials) {
    PodsListed listed{{}, now_};
    for (const int i : serials) {
      listed.pods.push_back(View("run-a-" + std::to_string(i), PodPhase::kRunning));
    }
    Do(listed);
  }

  template <typename T>
  std::vector<T> All() const {
    std::vector<T> found;
    for (const FleetAction& action : decision_.actions) {
      if (const T* that = std::get_if<T>(&action)) found.push_back(*that);
    }
    return found;
  }
  // Of the last event.
  std::vector<std::string> created() const { return Names<CreatePod>(); }
  std::vector<std::string> deleted() const { return Names<DeletePod>(); }
  const std::vector<FleetAction>& actions() const { return decision_.actions; }
  const std::string& reason() const { return decision_.reason; }
  const FleetCore& core() const { return core_; }
  TimePoint now() const { return now_; }

 private:
  template <typename T>
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const T& action : All<T>()) names.push_back(action.name);
    return names;
  }

  FleetCore core_;
  TimePoint now_{std::chrono::seconds(1000)};
  FleetDecision decision_;
};

}  // namespace muster::fleet
