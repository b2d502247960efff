// Meeting: the ranks of one generation inside a process, and the posts that they read from each other's memory.
//
// Threading: safe from any thread; each rank runs one Transfer at a time.
// Invariant: memory named by a post is read only between the post and the return of the Transfer that posted it, also
// when that Transfer fails: it waits for a reader that is in the middle of a copy.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "collectives/communicator.h"

namespace muster {

class Meeting {
 public:
  explicit Meeting(std::vector<Peer> peers);

  int size() const { return static_cast<int>(peers_.size()); }

  // Enters as `rank` and waits for the others. Errors: kAlreadyExists, kDeadlineExceeded (naming the missing), kCancelled.
  Status Join(int rank, Duration timeout, std::stop_token stop);

  // The rank's communicator is gone: whoever still needs something from it has lost it.
  void Leave(int rank);

  // That all ranks are there, of which one waits for something else. Errors: kAborted.
  Status CheckAll();

  // What a rank reads from `rank`: the bytes that it posted, called in list order without a lock held.
  struct Read {
    int rank;
    size_t bytes;
    std::function<void(std::span<const std::byte>)> consume;
  };

  // Posts `sends`, performs `reads` in their order, and returns when all posts have been read. `operation` and `total`
  // must agree with those of the ranks it meets. Errors: as Communicator::AllReduce.
  Status Transfer(int rank, const std::string& operation, size_t total,
                  std::span<const SendTo> sends, std::span<const Read> reads,
                  Duration silence_timeout);

  // Ends the meeting for all ranks; the first reason stays.
  void Revoke(const std::string& reason, std::optional<int> lost_peer);
  bool revoked() const;
  std::string revoke_reason() const;
  std::optional<int> lost_peer() const;

 private:
  struct Post {
    std::string operation;
    size_t total = 0;
    std::span<const std::byte> data;
    enum class State { kWaiting, kBeingRead, kDone } state = State::kWaiting;
  };
  using Posts = std::vector<std::pair<int, std::shared_ptr<Post>>>;

  Posts PostAll(int rank, const std::string& operation, size_t total,
                std::span<const SendTo> sends);
  Status ReadOne(std::unique_lock<std::mutex>& lock, int rank, const std::string& operation,
                 size_t total, const Read& read, Duration silence_timeout);
  // Waits until `ready`, as long as the meeting lives and `peer` is there to make it so.
  Status Await(std::unique_lock<std::mutex>& lock, int peer, Duration silence_timeout,
               const std::string& operation, const std::function<bool()>& ready);
  // After a failure: no peer starts to read any more, but one may be in the middle.
  void AwaitReaders(std::unique_lock<std::mutex>& lock, const Posts& posts);
  tl::unexpected<Error> Fail(Code code, std::string reason, std::optional<int> lost_peer);
  tl::unexpected<Error> Aborted() const;
  std::string Name(int rank) const;

  const std::vector<Peer> peers_;

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  // Guarded by mutex_:
  std::set<int> joined_;
  std::set<int> left_;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Post>>> posts_;  // by (from, to)
  bool revoked_ = false;
  std::string reason_;
  std::optional<int> lost_peer_;
};

}  // namespace muster
