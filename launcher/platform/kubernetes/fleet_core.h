// FleetCore: which worker pods of a job should exist, and what to do about it. A pure state machine that runs in the coordinator:
// events and the time go in, actions come out, with a sentence that says why. The shell talks to the API server.
//
// Life of a pod:
//   asked for --answered or seen--> pending --> running --> ended --> gone
//      |                               \           \__ leaving: deleted by us or by others ___/
//      +-- no answer: unsure, until two lists tell
//
// Life of the fleet:
//   starting --(ring formed)--> running --(no member left)--> starting
//      +--(deadline)--> giving up (pods are deleted) -> pausing -> starting; too often: failed
//
// Invariants:
// - A name is given out once, and after its serial is durable. What is gone never comes back.
// - A pool asks for a pod only while fewer than its maximum are asked for, pending, running or leaving: nothing is replaced before
//   it has ended. With growth `step K` at most K of its pods wait.
// - No pod is touched that lacks the label of our run, whose name is not of our making, or whose uid is not known.
// - A pod counts as gone when a watch, a delete or two lists in a row, some time apart, say so; lists never take a member.
// - Only what the user asks for deletes more pods at once than the brake allows.
//
// Threading: none; the shell serialises calls.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/platform/kubernetes/fleet_actions.h"
#include "launcher/platform/kubernetes/fleet_events.h"
#include "launcher/platform/kubernetes/fleet_options.h"
#include "launcher/platform/kubernetes/fleet_status.h"
#include "runtime/base/time.h"

namespace muster::fleet {

class FleetCore {
 public:
  // `saved`: the last Persist of a former coordinator of this run, or nothing. With it, two lists come before the first create.
  // Nothing happens before the first event, which may be TimePassed.
  FleetCore(FleetOptions options, FleetSaved saved);

  // `jitter`, from 0 to 1, lengthens pauses that begin now by up to a half, so that jobs do not retry in step.
  FleetDecision Handle(const FleetEvent& event, TimePoint now, double jitter = 0);

  TimePoint wake() const { return wake_; }  // come with TimePassed then, if nothing comes before
  bool done() const;                        // stopped or failed, and no pod is left
  FleetStatus Status() const;
  std::optional<std::vector<StandingPod>> Standing() const;  // none: lists must tell first

 private:
  enum class State { kAsked, kPending, kRunning, kEnded };

  struct Pod {
    std::string name;
    State state = State::kAsked;
    std::string uid;           // empty: not known yet
    bool unsure = false;       // kAsked: no answer came in time
    bool terminating = false;  // it has a deletionTimestamp
    bool deleting = false;     // we have asked for its deletion
    bool noticed = false;      // Notice was sent
    bool ran = false;
    TimePoint asked_at{};        // or when it was first heard of
    TimePoint known_at{};        // last sign that it exists
    TimePoint running_at{};      // with `ran`
    TimePoint outside_since{};   // running and not in the ring
    TimePoint ended_at{};        // kEnded
    TimePoint terminating_at{};  // with `terminating`
    TimePoint delete_again{};    // with `deleting`
    bool absent = false;         // from a list that should have shown it
    TimePoint absent_at{};       // with `absent`
    std::string delete_reason;
    std::string delete_error;  // the last
    std::string explained;     // last Explain
    bool changed = true;       // since then
    PodView view;              // last seen
  };

  struct Pool {
    PoolOptions options;
    std::map<int64_t, Pod> pods;  // by serial
    int64_t next_serial = 1;
    bool shrinking = false;  // the user has asked for fewer
    TimePoint refused_until{};
    int refusals = 0;  // in a row
    std::string refusal;
    TimePoint unmet_until{};  // nothing beyond the minimum before
    int withdrawals = 0;      // rounds in a row
    TimePoint crash_until{};
    TimePoint crashed_at = TimePoint::min();  // last round
    int crashes = 0;                          // rounds in a row
    bool growing = false;                     // has said so
    std::string stopped;                      // why it asks for no more pods

    bool Counts() const { return options.growth.mode != Growth::Mode::kOpportunistic; }
    int Minimum() const { return Counts() ? options.pods.min : 0; }
  };

  struct Counts {
    int waiting = 0;   // asked for or pending, leaving or not
    int occupied = 0;  // not ended
    int usable = 0;    // not ended and not leaving
    int running = 0;   // of the usable
  };

  // fleet_core.cc: what each event tells.
  void On(const PodSeen& event);
  void On(const PodGone& event);
  void On(const PodsListed& event);
  void On(const MemberJoined& event);
  void On(const MemberLeft& event);
  void On(const CreateAnswered& event);
  void On(const DeleteAnswered& event);
  void On(const Resized& event);
  void On(const Stopped& event);
  void On(const TimePassed&) {}
  void Refused(Pool& pool, const std::string& message);
  void LookForAbsent(const std::set<std::string>& listed, TimePoint asked);

  // fleet_pods.cc: one pod, what it is and what becomes of it.
  std::optional<std::pair<Pool*, int64_t>> Ours(std::string_view name);
  Pod* Find(const std::string& name, const std::string& uid);
  Pod* Adopt(const std::string& name, const std::string& uid);
  void Look(Pool& pool, Pod& pod, const PodView& view);
  void MakeUnsure(Pod& pod);
  void ForgetAsked(Pool& pool, int64_t serial);
  void NoteEnd(Pool& pool, Pod& pod, const std::string& reason, bool terminal);
  void Remove(Pool& pool, int64_t serial, const std::string& reason);
  void Bury(const std::string& name, bool certain);
  void CountCrash(Pool& pool, const Pod& pod, const std::string& how);
  void NoteHealth(Pool& pool);
  bool Delete(Pod& pod, const std::string& reason, bool braked);
  void SendDelete(Pod& pod, std::optional<Duration> grace);

  // fleet_decide.cc: looks at everything and does what follows.
  void Decide();
  void CheckTimes(Pool& pool);
  void EndAll(const std::string& reason, bool braked);
  void Shrink(Pool& pool);
  void Withdraw(Pool& pool);
  void ReplaceOutsiders(Pool& pool);
  void Grow(Pool& pool);
  int Missing(const Pool& pool, const Counts& counts);
  void Create(Pool& pool, int missing);
  void ReserveSerials(Pool& pool, int now, int soon);
  void AskForLists();
  void ExplainAll();

  // fleet_gang.cc: the first ring, and the one after all members are lost.
  void DecideGang();
  bool Gathering() const;
  bool StartBlocked();
  void GiveUpStart();
  void ClearStart();
  std::string MissingSentence() const;
  void Fail(const std::string& message);

  bool Due(TimePoint at);  // it has come; if not, wakes then
  bool TakeBrake();
  TimePoint Pause(const BackoffPolicy& policy, int attempt) const;
  bool IsMember(const Pod& pod) const { return members_.contains(pod.name); }
  static bool Leaving(const Pod& pod) { return pod.terminating || pod.deleting; }
  static Counts Count(const Pool& pool);
  static std::string WhyWaiting(const Pod& pod);
  static std::string HowEnded(const Pod& pod);
  std::string PoolNote(const Pool& pool) const;
  std::string PodName(const Pool& pool, int64_t serial) const;
  size_t InFlight() const;
  void Say(const std::string& kind, const std::string& message);

  const FleetOptions options_;
  FleetSaved saved_;
  std::vector<Pool> pools_;
  std::set<std::string> members_;
  std::map<std::string, bool> tombstones_;  // gone; false: a list may bring it back
  std::deque<std::pair<TimePoint, std::string>> tombstone_times_;
  int lists_needed_ = 0;  // before the first create
  TimePoint list_due_{};
  TimePoint listed_at_ = TimePoint::min();  // the last list that counted came
  TimePoint busy_until_{};
  TimePoint brake_until_{};
  int brake_used_ = 0;
  std::optional<TimePoint> gathering_since_;
  TimePoint gang_retry_at_{};
  bool giving_up_ = false;
  std::string missing_;  // at the last start that was given up
  std::optional<std::string> stopped_;
  std::string failure_;
  TimePoint now_;  // now_, jitter_ and decision_: of the event being handled
  double jitter_ = 0;
  FleetDecision decision_;
  TimePoint wake_ = TimePoint::min();
};

}  // namespace muster::fleet
