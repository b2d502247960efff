// Mesh: the links to all peers of a generation, the event loop that progresses an operation over them, and the end of it all.
//
// Threading: Operate() from one thread at a time; Revoke() and the questions from any thread at any time; between operations the
// listener's thread sends the heartbeats.
// Invariant: the links are touched only by the thread that has set busy_: the one in Operate(), or a Revoke() or Beat() that
// finds none there.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/host/link.h"
#include "collectives/host/listener.h"
#include "collectives/host/socket.h"

namespace muster::host {

class Mesh {
 public:
  // `links` by rank, empty at the own one.
  Mesh(const ConnectRequest& request, std::vector<std::unique_ptr<Link>> links,
       std::shared_ptr<Listener> listener, Wakeup wakeup);
  // Closes the links; peers that still need something from this rank have lost it.
  ~Mesh();

  int size() const { return static_cast<int>(links_.size()); }
  // Only inside `post` and `step` of Operate.
  Link& link(int rank) { return *links_[static_cast<size_t>(rank)]; }

  // A piece of an operation's own work: whether there was any, or why the mesh must end.
  using Step = std::function<tl::expected<bool, Trouble>()>;

  // Runs one operation: `post` posts its messages on the links, `step` is called whenever something has changed, and often while
  // `more` says that it waits for what no message announces. Returns when every link is idle and there is no more.
  // Errors: as Communicator::AllReduce.
  Status Operate(
      const std::string& name, const std::function<void()>& post,
      const Step& step = [] { return false; },
      const std::function<bool()>& more = [] { return false; });

  // Ends the mesh for an error of the caller. Returns kInvalidArgument, or kAborted if it has ended already.
  tl::unexpected<Error> Refuse(const std::string& reason);

  void Revoke(const std::string& reason);
  bool revoked() const;
  std::string revoke_reason() const;
  std::optional<int> lost_peer() const;
  std::vector<int> silent_peers() const;

 private:
  bool Enter();
  void Beat();
  void BeatIfDue(TimePoint now);
  void BeatLinks(TimePoint now);
  Status Leave(const std::optional<Trouble>& trouble);
  std::optional<Trouble> Progress(const std::string& name, const Step& step,
                                  const std::function<bool()>& more);
  // One round over all links; sets `idle` if nothing is left and `arrived` if a message came.
  std::optional<Trouble> AdvanceLinks(bool answer, bool& idle, bool& arrived);
  // Blocks until something has changed on a link, or the time is over.
  std::optional<Trouble> Wait(const std::string& name, Duration longest);
  // Judges by what had come when the sockets were `asked`: a process that was stopped in between
  // must look again before it blames anybody.
  std::optional<Trouble> CheckSilence(const std::string& name, TimePoint asked) const;
  std::vector<const Link*> Overdue(TimePoint asked, Duration timeout,
                                   TimePoint (Link::*last)() const) const;
  static Trouble Blame(const std::vector<const Link*>& links, std::string_view wanted,
                       Duration timeout, const std::string& name);
  TimePoint NextSilence() const;
  void Flood();
  tl::unexpected<Error> Aborted() const;

  const uint64_t generation_;
  const Duration operation_timeout_;
  const Duration heartbeat_timeout_;  // zero: no heartbeats
  const std::shared_ptr<Listener> listener_;
  const Wakeup wakeup_;
  std::vector<std::unique_ptr<Link>> links_;  // see the invariant
  std::vector<pollfd> poll_set_;              // of the thread in Operate()
  TimePoint next_beat_ = TimePoint::max();    // of the thread that has set busy_

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  bool busy_ = false;
  bool beating_ = false;  // busy_ is set by Beat(), for a moment
  std::condition_variable beating_over_;
  std::optional<Trouble> end_;  // why the mesh has ended, if it has
};

}  // namespace muster::host
