// Random histories: a FleetCore against a simulated API server, scheduler, autoscaler and ring, which delay, lose, repeat and reorder
// what they say, with evictions, dead nodes, restarts and resizes. What must always hold is checked at each action; after the
// faults, the fleet must become what the user asked for, and go when it is told to.
//
// MUSTER_FLEET_SEED=N plays that history only; MUSTER_FLEET_SEEDS=N plays so many.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <set>

#include "launcher/platform/kubernetes/fleet_core.h"

namespace muster::fleet {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// One pod as it really is.
struct Real {
  PodView view;
  std::string pool;
  bool dead = false;  // its node is; nothing on it answers any more
  bool late = false;  // its create was on the way when the coordinator that sent it died
  bool member = false;
  bool Ours() const { return view.run == "r1"; }
  bool Live() const { return view.phase == PodPhase::kPending || view.phase == PodPhase::kRunning; }
};

class World {
 public:
  explicit World(uint64_t seed) : random_(seed * 0x9e3779b97f4a7c15 + 1), seed_(seed) {
    options_.run = "r1";
    options_.pod_prefix = "run";
    const int pools = 1 + Below(2);
    for (int i = 0; i < pools; ++i) {
      const int max = 1 + Below(Chance(10) ? 40 : 8);
      PoolOptions pool{i == 0 ? "a" : "b", {Below(max + 1), max}, {}};
      const int mode = Below(3);
      if (mode == 1) pool.growth = {Growth::Mode::kStep, 1 + Below(3)};
      if (mode == 2 && i == 1) pool.growth = {Growth::Mode::kOpportunistic, 0};
      options_.pools.push_back(pool);
    }
    options_.max_creates_in_flight = 1 + Below(6);
    options_.serial_block = 1 + Below(8);
    options_.create_timeout = seconds(4);
    options_.delete_timeout = seconds(3);
    options_.refused = {seconds(1), seconds(8)};
    options_.grace = seconds(5);
    options_.gang_deadline = seconds(20);
    options_.terminating_deadline = seconds(8);
    options_.list_timeout = seconds(5);
    // One pod after the other is the slowest way to a minimum.
    for (const PoolOptions& pool : options_.pools) {
      options_.gang_deadline =
          std::max<Duration>(options_.gang_deadline, seconds(20 + 5 * pool.pods.max));
    }
    options_.gang_pause = {seconds(2), seconds(16)};
    options_.gang_retries = 1000;
    options_.unmet_deadline = seconds(15);
    options_.unmet_pause = {seconds(4), seconds(16)};
    options_.quick_end = seconds(4);
    options_.join_deadline = seconds(10);
    options_.crash_pause = {seconds(1), seconds(8)};
    options_.crash_limit = 1000;  // misfortune is no loop
    options_.finished_kept = seconds(10);
    capacity_ = Below(12);
    core_.emplace(options_, saved_);
  }

  // The first thing that was wrong; empty if nothing was.
  std::string Play() {
    After(0, [this] { Step(); });
    After(0, [this] { Relist(); });
    Run(seconds(60), [] { return false; });
    faults_ = false;
    capacity_ = 1000;
    Tell(Resized{Ranges()});
    if (!Run(seconds(240), [this] { return Converged(); })) Wrong("does not converge: " + Dump());
    stopped_ = true;
    Tell(Stopped{"end"});
    if (!Run(seconds(90), [this] { return core_->done() && !AnyLeft(); })) {
      Wrong("pods are left after the stop: " + Dump());
    }
    return wrong_;
  }

 private:
  uint64_t Next() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    return random_ ^= random_ << 17;
  }
  int Below(int n) { return static_cast<int>((Next() >> 16) % n); }
  bool Chance(int percent) { return Below(100) < percent; }
  bool Fault(int percent) { return faults_ && Chance(percent); }

  void After(int ms, std::function<void()> what) {
    queue_.emplace(now_ + milliseconds(ms), std::move(what));
  }
  void Wrong(const std::string& what) {
    if (wrong_.empty())
      wrong_ = fmt::format("seed {} at {:.1f} s: {}", seed_, Seconds(now_ - kStart), what);
  }

  bool Run(Duration time, const std::function<bool()>& until) {
    const TimePoint end = now_ + time;
    while (wrong_.empty()) {
      if (until()) return true;
      const TimePoint next = std::max(now_, std::min(core_->wake(), queue_.begin()->first));
      if (next > end) return false;
      now_ = next;
      if (core_->wake() <= now_) {
        if (++idle_ > 1000) Wrong("it wakes for ever at one time");
        Tell(TimePassed{});
        continue;
      }
      idle_ = 0;
      const auto what = std::move(queue_.begin()->second);
      queue_.erase(queue_.begin());
      what();
    }
    return true;
  }

  // What reaches the coordinator later is lost if it has died meanwhile.
  void TellAfter(int ms, FleetEvent event) {
    After(ms, [this, event = std::move(event), life = life_] {
      if (life == life_) Tell(event);
    });
  }
  void Tell(const FleetEvent& event) {
    const FleetDecision decision = core_->Handle(event, now_, Below(100) / 100.0);
    int braked = 0;
    for (const FleetAction& action : decision.actions) {
      std::visit([this](const auto& what) { Act(what); }, action);
      const auto* deletion = std::get_if<DeletePod>(&action);
      if (deletion == nullptr || !deleted_.insert(deletion->uid).second) continue;
      if (deletion->grace == Duration::zero()) continue;  // it was to end anyway
      braked += !stopped_ && deletion->reason.find("shrinks") == std::string::npos;
    }
    int wanted = 0;
    for (const PoolOptions& pool : options_.pools) wanted += pool.pods.max;
    const int allowed = std::max<int>(1, std::max<int>(wanted, pods_.size() + 10) / 10);
    if (braked > allowed) Wrong(fmt::format("{} pods deleted: {}", braked, decision.reason));
  }

  void Act(const Persist& action) { saved_ = action.saved; }
  void Act(const Notice& action) {
    if (!noticed_.insert(action.pod).second) Wrong("two notices for " + action.pod);
  }
  void Act(const PodLost& action) {
    if (!lost_.insert(action.pod).second) Wrong("lost twice: " + action.pod);
    const auto found = pods_.find(action.pod);
    if (found != pods_.end() && found->second.Ours() && found->second.Live()) {
      Wrong("lost, but it lives: " + action.pod);
    }
  }
  void Act(const Emit&) {}
  void Act(const Explain&) {}
  void Act(const FailJob& action) { Wrong("failed: " + action.message); }

  void Act(const CreatePod& action) {
    if (!names_.insert(action.name).second) Wrong("given out twice: " + action.name);
    if (saved_.serials[action.pool] < action.serial) Wrong("not durable: " + action.name);
    ++in_flight_[action.pool];
    if (stopped_) Wrong("created after the stop: " + action.name);
    const PoolOptions& pool = Options(action.pool);
    int live = 0;
    int pending = 0;
    for (const auto& [name, real] : pods_) {
      if (!real.Ours() || real.pool != action.pool || !real.Live() || real.late) continue;
      ++live;
      pending += real.view.phase == PodPhase::kPending;
    }
    live += in_flight_[action.pool];
    pending += in_flight_[action.pool];
    if (live > pool.pods.max) Wrong(fmt::format("{} live pods, at most {}", live, pool.pods.max));
    if (pool.growth.mode == Growth::Mode::kStep && pending > pool.growth.step) {
      Wrong(fmt::format("{} wait, step {}", pending, pool.growth.step));
    }
    int outstanding = 0;
    for (const auto& [name, count] : in_flight_) outstanding += count;
    if (outstanding > static_cast<int>(options_.max_creates_in_flight)) {
      Wrong(fmt::format("{} creates in flight", outstanding));
    }
    After(10 + Below(400), [this, action, life = life_] { Post(action, life); });
  }

  void Post(const CreatePod& action, int life) {
    using Result = CreateAnswered::Result;
    const bool late = life != life_;
    if (!late) --in_flight_[action.pool];
    CreateAnswered answer{action.name};
    if (Fault(4)) {
      answer.result = Result::kBusy;
      answer.retry_after = seconds(1 + Below(3));
    } else if (Fault(4)) {
      answer.result = Result::kRefused;
      answer.message = "exceeded quota";
    } else if (pods_.contains(action.name)) {
      answer.result = Result::kExistsForeign;
    } else if (!Fault(2)) {
      Real& real = pods_[action.name];
      real.view.name = action.name;
      real.view.uid = answer.uid = fmt::format("uid-{}", ++uids_);
      real.view.run = "r1";
      real.pool = action.pool;
      real.late = late;
      Changed(real);
    } else {
      answer.result = Result::kUnknown;
    }
    if (late || Fault(5)) return;
    if (Fault(5)) answer.result = Result::kUnknown;
    TellAfter(Delay(), answer);
  }

  void Act(const DeletePod& action) {
    const auto found = pods_.find(action.name);
    if (found != pods_.end() && !found->second.Ours() && found->second.view.uid == action.uid) {
      Wrong("deletes a foreign pod " + action.name);
    }
    if (action.uid.empty()) Wrong("deletes without a uid: " + action.name);
    After(10 + Below(400), [this, action] { Remove(action); });
  }

  void Remove(const DeletePod& action) {
    using Result = DeleteAnswered::Result;
    DeleteAnswered answer{action.name, action.uid};
    const auto found = pods_.find(action.name);
    if (found == pods_.end() || found->second.view.uid != action.uid) {
      answer.result = Result::kNotFound;
    } else if (Fault(5)) {
      answer.result = Chance(50) ? Result::kBusy : Result::kFailed;
      answer.retry_after = seconds(2);
    } else if (!found->second.Live() || found->second.view.node.empty() ||
               action.grace == Duration::zero()) {
      Erase(action.name);
    } else {
      Terminate(found->second);
    }
    if (!Fault(10)) TellAfter(Delay(), answer);
  }

  int Delay() { return Fault(5) ? 3000 : 5 + Below(200); }

  void Changed(const Real& real) {
    for (int i = Fault(10) ? 2 : 1; i > 0; --i) {
      if (!Fault(3)) TellAfter(Delay(), PodSeen{real.view});
    }
  }
  void Erase(const std::string& name) {
    const auto found = pods_.find(name);
    if (!Fault(3)) TellAfter(Delay(), PodGone{name, found->second.view.uid});
    if (found->second.member) Leave(found->second);
    pods_.erase(found);
  }
  void Terminate(Real& real) {
    if (real.view.terminating) return;
    real.view.terminating = true;
    Changed(real);
    After(200 + Below(4500), [this, name = real.view.name, uid = real.view.uid] {
      const auto found = pods_.find(name);
      if (found == pods_.end() || found->second.view.uid != uid || found->second.dead) return;
      End(found->second, 0);
      After(Below(1000), [this, name] {
        if (pods_.contains(name)) Erase(name);
      });
    });
  }
  void End(Real& real, int exit_code) {
    if (!real.Live()) return;
    if (real.member) Leave(real);
    real.view.phase = exit_code == 0 ? PodPhase::kSucceeded : PodPhase::kFailed;
    real.view.exit_code = exit_code;
    Changed(real);
  }
  void Leave(Real& real) {
    real.member = false;
    Tell(MemberLeft{real.view.name});
  }

  void Act(const ListPods&) {
    if (!Fault(10)) List();
  }
  void Relist() {
    List();
    After(faults_ ? 20000 : 5000, [this] { Relist(); });
  }
  // A list may be behind or lack anything, but never two in a row: no client could tell.
  void List() {
    After(10 + Below(200), [this, asked = now_, life = life_] {
      if (life != life_) return;
      PodsListed listed{{}, asked};
      const bool wrong = !list_was_wrong_ && Fault(25);
      list_was_wrong_ = wrong;
      const bool behind = wrong && Chance(40);
      const int keep = Chance(50) ? 0 : Below(100);
      const auto& from = behind ? earlier_ : pods_;
      for (const auto& [name, real] : from) {
        if (!wrong || behind || Chance(keep)) listed.pods.push_back(real.view);
      }
      Tell(listed);
    });
  }

  // Scheduler, autoscaler, kubelets, ring and misfortune, twice a second.
  void Step() {
    After(500, [this] { Step(); });
    earlier_ = pods_;
    int used = 0;
    for (const auto& [name, real] : pods_) used += real.Live() && !real.view.node.empty();
    if (Fault(5)) capacity_ = Below(12);
    for (auto& [name, real] : pods_) {
      if (!real.Ours() || real.view.phase != PodPhase::kPending || real.view.terminating) continue;
      if (real.view.node.empty() && used < capacity_) {
        ++used;
        real.view.node = "n";
        real.view.unscheduled_reason.clear();
        Changed(real);
      } else if (real.view.node.empty() && real.view.unscheduled_reason.empty()) {
        real.view.unscheduled_reason = "Unschedulable";
        Changed(real);
      } else if (!real.view.node.empty() && Chance(40)) {
        real.view.phase = PodPhase::kRunning;
        Changed(real);
      }
    }
    Ring();
    if (faults_) Misfortune();
  }

  void Ring() {
    bool formed = false;
    bool enough = true;
    std::vector<std::string> joining;
    for (const PoolOptions& pool : options_.pools) {
      int running = 0;
      for (const auto& [name, real] : pods_) {
        if (!real.Ours() || real.pool != pool.name) continue;
        formed |= real.member;
        if (real.view.phase != PodPhase::kRunning || real.view.terminating || real.dead) continue;
        ++running;
        if (!real.member) joining.push_back(name);
      }
      enough &= pool.growth.mode == Growth::Mode::kOpportunistic || running >= pool.pods.min;
    }
    if (!formed && !enough) return;
    for (const std::string& name : joining) {
      if (Fault(10)) continue;
      pods_[name].member = true;
      Tell(MemberJoined{name});
    }
  }

  void Misfortune() {
    if (Chance(2)) Restart();
    if (Chance(2)) {
      PoolOptions& pool = options_.pools[Below(options_.pools.size())];
      pool.pods.max = Below(10);
      pool.pods.min = Below(pool.pods.max + 1);
      Tell(Resized{Ranges()});
    }
    if (Chance(2)) {  // a name that we might want, of somebody else
      Real real;
      real.pool = "a";
      real.view.name = fmt::format("run-a-{}", saved_.serials["a"] + Below(4));
      real.view.uid = fmt::format("uid-{}", ++uids_);
      real.view.run = "another";
      if (pods_.emplace(real.view.name, real).second) Changed(real);
    }
    if (pods_.empty() || !Chance(15)) return;
    Real& real = std::next(pods_.begin(), Below(pods_.size()))->second;
    if (!real.Ours() || real.dead || real.view.node.empty()) return;
    switch (Below(3)) {
      case 0:
        if (real.view.phase == PodPhase::kRunning && !real.view.terminating) End(real, 1);
        break;
      case 1:
        real.view.disruption = "EvictionByEvictionAPI";
        Terminate(real);
        break;
      default:
        Kill(real);
    }
  }
  void Kill(Real& real) {
    real.dead = true;
    After(2000, [this, name = real.view.name] {
      const auto found = pods_.find(name);
      if (found != pods_.end() && found->second.member) Leave(found->second);
    });
    After(4000 + Below(20000), [this, name = real.view.name] {
      const auto found = pods_.find(name);
      if (found == pods_.end() || !found->second.dead) return;
      found->second.view.disruption = "DeletionByTaintManager";
      Terminate(found->second);
    });
  }

  void Restart() {
    ++life_;
    in_flight_.clear();
    deleted_.clear();
    noticed_.clear();
    lost_.clear();
    core_.emplace(options_, saved_);
    Tell(TimePassed{});
    TellAfter(1, TimePassed{});
    for (const auto& [name, real] : pods_) {
      if (real.Ours()) TellAfter(10 + Below(100), PodSeen{real.view});
      if (real.member) TellAfter(500, MemberJoined{name});
    }
  }

  const PoolOptions& Options(const std::string& name) const {
    return options_.pools[name == options_.pools[0].name ? 0 : 1];
  }
  std::map<std::string, WorkerRange> Ranges() const {
    std::map<std::string, WorkerRange> ranges;
    for (const PoolOptions& pool : options_.pools) ranges[pool.name] = pool.pods;
    return ranges;
  }
  bool Converged() const {
    for (const PoolOptions& pool : options_.pools) {
      int good = 0;
      for (const auto& [name, real] : pods_) {
        if (!real.Ours() || real.pool != pool.name || !real.Live()) continue;
        if (!real.member || real.view.terminating) return false;
        ++good;
      }
      if (good != pool.pods.max) return false;
    }
    return true;
  }
  bool AnyLeft() const {
    for (const auto& [name, real] : pods_) {
      if (real.Ours()) return true;
    }
    return false;
  }
  std::string Dump() const {
    const FleetStatus status = core_->Status();
    std::string text = status.phase;
    for (const PoolStatus& pool : status.pools) {
      text += fmt::format("; pool {} {}:{} running {} waiting {} leaving {} members {} {}",
                          pool.name, pool.min, pool.max, pool.running, pool.waiting, pool.leaving,
                          pool.members, pool.note);
    }
    for (const auto& [name, real] : pods_) {
      if (!real.Ours()) continue;
      text += fmt::format("; {} phase {} terminating {} dead {} member {}", name,
                          static_cast<int>(real.view.phase), real.view.terminating, real.dead,
                          real.member);
    }
    return text;
  }

  static constexpr TimePoint kStart{seconds(1000)};
  uint64_t random_;
  const uint64_t seed_;
  TimePoint now_ = kStart;
  std::multimap<TimePoint, std::function<void()>> queue_;
  FleetOptions options_;
  FleetSaved saved_;
  std::optional<FleetCore> core_;
  std::map<std::string, Real> pods_;
  std::map<std::string, Real> earlier_;             // at the last step
  std::map<std::string, int> in_flight_;            // creates of this life that have not arrived
  std::set<std::string> names_;                     // ever given out
  std::set<std::string> deleted_, noticed_, lost_;  // in this life
  int life_ = 0;
  int idle_ = 0;
  int uids_ = 0;
  int capacity_ = 0;
  bool faults_ = true;
  bool stopped_ = false;
  bool list_was_wrong_ = false;
  std::string wrong_;
};

uint64_t Number(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(FleetRandom, AnyHistoryKeepsTheRulesAndConverges) {
  const uint64_t first = Number("MUSTER_FLEET_SEED", 1);
  const uint64_t count = Number("MUSTER_FLEET_SEEDS", std::getenv("MUSTER_FLEET_SEED") ? 1 : 3000);
  for (uint64_t seed = first; seed < first + count; ++seed) {
    ASSERT_EQ(World(seed).Play(), "") << "MUSTER_FLEET_SEED=" << seed << " plays it again";
  }
}

}  // namespace
}  // namespace muster::fleet
