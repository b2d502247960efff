// FleetShell: runs FleetCore: tells it what the API server, the coordinator and the clock say, and does what it decides.
//
//   informer (list, watch) --+                                          +--> listener: Offer, Lost, Note, Fail
//   MembersChanged, Resize, -+--> queue --> shell's thread: FleetCore --+--> PodRequests: creates and deletes pods
//   Stop, replies, clock ----+                                          +--> SavedWriter: the record's key `fleet`
//
// What FleetCore wants remembered is durable before what it has decided after that is done, and before any pod of that decision is
// asked for. Meanwhile everything else goes on: a server that takes no writes does not hide that a pod is lost.
//
// Once the record is not ours any more (another coordinator has taken the run over, or it has been deleted), nothing is sent, and
// the listener hears of nothing but that.
//
// Threading: all methods are safe from any thread, but for the destructor, which must not run in the listener. Ownership: client, record
// and listener outlive the shell. The client should speak HTTP/1.1 over at least kSpareConnections more connections than there are
// request threads: a server that keeps all of those waiting still tells the watch what happens.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "k8s/client/informer.h"
#include "launcher/platform/kubernetes/fault_notes.h"
#include "launcher/platform/kubernetes/fleet_core.h"
#include "launcher/platform/kubernetes/fleet_setup.h"
#include "launcher/platform/kubernetes/pod_requests.h"
#include "launcher/platform/kubernetes/run_record.h"
#include "launcher/platform/kubernetes/saved_writer.h"
#include "runtime/base/thread_annotations.h"

namespace muster::kubernetes {

// The coordinator, as the shell sees it. All are called from the shell's thread, one at a time, and must not block for long.
class FleetListener {
 public:
  virtual ~FleetListener() = default;

  // All slots of pods that are asked for, pending or running, and not on their way out; `leaving`: why those go that are. Said when it
  // changes; for the first time when it is known what a former coordinator has left.
  virtual void Offer(const std::vector<std::string>& slots,
                     const std::map<std::string, std::string>& leaving) = 0;
  // That slot runs no more. `exit_code` is -1 if a signal ended it, or, where `signal` is 0 too, if nobody knows.
  virtual void Lost(const std::string& slot, int exit_code, int signal,
                    const std::string& reason) = 0;
  // For the events of the job: what FleetCore emits (fleet_actions.h), and "api-fault" and "api-recovered" where the API server does
  // not do its work, each once for one fault.
  virtual void Note(const std::string& kind, const std::string& message) = 0;
  // There is no hope; the pods go by themselves. Once at most.
  virtual void Fail(int exit_code, const std::string& message) = 0;
  // The run is not ours any more: act no more, and end. The last call.
  virtual void Fenced(const std::string& reason) = 0;
};

// With 16, an API server with two cores takes 7 s for 1,000 pods, with these 4 s, because what it does for scheduler and
// kubelets gets less of them.
inline constexpr int kRequestThreads = 60;
inline constexpr int kSpareConnections = 4;  // watch, list, record, and one for whoever asks

struct FleetShellOptions {
  ClusterRun run;             // its owner_uid is taken from the record
  fleet::FleetOptions fleet;  // FleetOptionsOf(run)
  fleet::FleetSaved saved;  // FleetSavedFromJson of the record's key kFleetKey; nothing without it
  int request_threads = kRequestThreads;
  Duration record_timeout = std::chrono::seconds(10);  // of one attempt to write the record
  k8s::WatchTimes watch;
};

class FleetShell {
 public:
  // Starts.
  FleetShell(k8s::ApiClient& client, RunRecord& record, FleetShellOptions options,
             FleetListener& listener);
  ~FleetShell();  // ends what is under way, milliseconds; the pods stay
  FleetShell(const FleetShell&) = delete;
  FleetShell& operator=(const FleetShell&) = delete;

  // These are all slots in the ring now.
  void MembersChanged(const std::vector<std::string>& slots) EXCLUDES(mutex_);
  void Resize(int min_workers, int max_workers) EXCLUDES(mutex_);
  // All pods go, and no more are made.
  void Stop(const std::string& reason) EXCLUDES(mutex_);
  // After Stop or Fail: blocks until no pod is left. False at the deadline, or at once if the run is not ours any more.
  bool WaitUntilDone(TimePoint deadline) EXCLUDES(mutex_);
  // How another write of the record went: what it meets is a fault too.
  void RecordWritten(const Status& written) EXCLUDES(mutex_);
  // What `launcher status` shows (fleet_json.h).
  std::string StatusJson() const EXCLUDES(mutex_);

 private:
  using Task = std::function<void()>;
  struct Held {
    uint64_t number = 0;  // what must be durable before
    TimePoint since;
    fleet::FleetAction action;
  };

  void Post(Task task) EXCLUDES(mutex_);
  void PostUpdate(const k8s::WatchUpdate& update);

  // All below: the shell's thread.
  void Run(const std::stop_token& stop) EXCLUDES(mutex_);
  std::deque<Task> WaitForTasks(const std::stop_token& stop) EXCLUDES(mutex_);
  void Handle(const fleet::FleetEvent& event) EXCLUDES(mutex_);
  void Act(std::vector<fleet::FleetAction> actions);
  void Perform(const fleet::FleetAction& action, TimePoint since);
  void Saved(uint64_t number, const Status& written);
  void GiveUpHeldCreates();
  void TellLost(const fleet::PodLost& lost);
  void TellOffer() EXCLUDES(mutex_);
  void TellFaults() EXCLUDES(mutex_);
  void Report(const std::string& what, const std::string& fault) EXCLUDES(mutex_);
  bool LookForFence() EXCLUDES(mutex_);

  const FleetShellOptions options_;
  RunRecord& record_;
  FleetListener& listener_;
  const PodSlots slots_;

  mutable Mutex mutex_;
  std::condition_variable_any arrived_;
  std::condition_variable_any ended_;
  std::deque<Task> tasks_ GUARDED_BY(mutex_);
  fleet::FleetCore core_ GUARDED_BY(mutex_);
  FaultNotes faults_ GUARDED_BY(mutex_);
  bool done_ GUARDED_BY(mutex_) = false;
  bool fenced_ GUARDED_BY(mutex_) = false;

  // The shell's thread's own.
  std::deque<Held> held_;  // in order
  uint64_t asked_ = 0;     // numbers of what is to be durable
  uint64_t durable_ = 0;
  std::set<std::string> members_;  // pods
  struct Offered {
    std::vector<std::string> slots;
    std::map<std::string, std::string> leaving;
    bool operator==(const Offered&) const = default;
  };
  std::optional<Offered> offered_;  // the last
  bool offer_is_old_ = false;
  std::minstd_rand random_;

  PodRequests requests_;
  SavedWriter writer_;
  k8s::Informer informer_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace muster::kubernetes
