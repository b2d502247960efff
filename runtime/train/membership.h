// Membership: the thin shell around MemberCore. It builds communicators in the background, hands them to the trainer when
// they may be entered, and carries orders and reports.
//
// Threading: the trainer's methods come from one thread; orders arrive on the line's thread; communicators are built on a
// thread of this class. Ownership: the backend outlives the membership.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "collectives/communicator.h"
#include "runtime/base/status.h"
#include "runtime/core/member.h"
#include "runtime/train/catch_up.h"
#include "runtime/train/control_line.h"

namespace muster {

struct MembershipOptions {
  std::string worker;
  uint64_t incarnation = 0;
  Duration connect_timeout = std::chrono::seconds(5);
  Duration connect_timeout_each = std::chrono::milliseconds(10);  // more, for every member
  Duration operation_timeout =
      std::chrono::seconds(90);  // above the coordinator's step timeout, which comes first
  // Below the coordinator's, which evicts who is silent there too as soon as peers say that they wait for it.
  Duration heartbeat_timeout = std::chrono::seconds(1);
  Duration order_timeout =
      std::chrono::minutes(10);  // without a generation to enter, and no coordinator to ask
};

// Errors that end a generation, not the job.
inline bool EndsGeneration(const Error& error) {
  return error.code == Code::kAborted || error.code == Code::kDeadlineExceeded;
}

// A communicator that may be entered, and what it cost.
struct BuiltGeneration {
  std::shared_ptr<Communicator> communicator;
  Generation generation;
  // The ranks that take steps until they switch to it by a vote, ascending; none: it is entered without one. All members agree.
  std::vector<int> veterans;
  double connect_ms = 0;  // order received -> built
};

// What the trainer does for a membership. The first two complete hellos and reports with what only it knows (step, loss, ...) and
// are called from any thread. `catch_up` uses the communicator of a planned generation before it is entered, on the thread that
// builds; see CatchUp::Run. When `trains_in` is 0, the trainer waits in AwaitGeneration() meanwhile.
struct MembershipCallbacks {
  std::function<void(Hello&)> fill_hello;
  std::function<void(Report&)> fill_report;
  std::function<Status(Communicator&, uint64_t trains_in, const CatchUp::Ready&, std::stop_token)>
      catch_up;
};

class Membership {
 public:
  Membership(MembershipOptions options, Backend& backend, MembershipCallbacks callbacks);
  ~Membership();

  // Opens the line to the coordinator; or, without one, forms a world of one.
  void Start(const ControlLineFactory& open_line);

  // Blocks until a generation may be entered without a vote. Errors: kCancelled (released: end with exit code 0),
  // kDeadlineExceeded.
  Result<BuiltGeneration> AwaitGeneration();

  // What to vote for: a built generation, or the number of one that does without this worker.
  struct Prepared {
    uint64_t number = 0;
    std::optional<BuiltGeneration> built;  // nothing: this worker leaves when the others switch
  };
  Prepared prepared();

  // The trainer waits in `built` for the others, then takes steps in it. ABORTED if it must not: AwaitGeneration() has the next one.
  Status Entering(const BuiltGeneration& built);
  void Entered(uint64_t number);
  // The others have switched to a generation without this worker.
  void Left();
  // The communicator of `generation` has failed with `error`.
  void Broken(const BuiltGeneration& built, const Error& error);

  void Send(Report report);
  Status Flush(TimePoint deadline);
  bool stop_requested();
  bool released();
  uint64_t entered_generation();
  const std::string& worker() const { return options_.worker; }

 private:
  void OnOrder(const Order& order);
  void Carry(std::vector<MemberAction> actions);
  void Do(BuildGeneration& action);
  void Do(DiscardBuild& action);
  void Do(RevokeActive& action);
  void Do(EnterGeneration& action);
  void Do(SayHello& action);
  void Do(Leave& action);
  void Do(SendReport& action);
  void BuildLoop(std::stop_token stop);
  Result<std::unique_ptr<Communicator>> Connect(const Generation& generation,
                                                const std::stop_token& stop,
                                                std::vector<std::string>& unreachable);
  void CatchUpIn(BuiltGeneration built, const std::stop_token& stop,
                 std::unique_lock<std::mutex>& lock);
  void Offer(const BuiltGeneration& built);
  Result<BuiltGeneration> AwaitOrder(std::unique_lock<std::mutex>& lock);
  void SendLocked(Report report);
  Hello MakeHello();
  Report MakeProgress();

  const MembershipOptions options_;
  Backend& backend_;
  const MembershipCallbacks callbacks_;

  std::mutex mutex_;  // guards all below
  std::condition_variable_any changed_;
  MemberCore core_;
  std::optional<BuildGeneration> to_build_;
  uint64_t connected_ = 0;    // the newest generation whose communicator is there
  uint64_t building_ = 0;     // the one that the builder is busy with
  bool parked_ = false;       // the trainer is in AwaitGeneration(),
  bool catching_up_ = false;  // and may not leave it: its state is being filled
  TimePoint ordered_at_{};
  std::stop_source build_stop_;
  std::stop_source serving_stop_;  // of the one entered, where the builder may still send something
  std::optional<BuiltGeneration> built_;
  std::shared_ptr<Communicator> active_;
  uint64_t entered_ = 0;
  uint64_t enter_ = 0;      // may be entered now; 0: none
  bool say_hello_ = false;  // the trainer says hello when it has left what it was in
  std::unique_ptr<ControlLine> line_;

  std::jthread builder_;
};

}  // namespace muster
