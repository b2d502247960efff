#include "collectives/inproc/meeting.h"

#include <fmt/ranges.h>

#include <algorithm>
namespace muster {

Meeting::Meeting(std::vector<Peer> peers) : peers_(std::move(peers)) {}

Status Meeting::Join(int rank, Duration timeout, std::stop_token stop) {
  std::unique_lock lock(mutex_);
  if (!joined_.insert(rank).second) {
    return Err(Code::kAlreadyExists, "rank {} has already joined this generation", rank);
  }
  changed_.notify_all();
  const auto complete = [&] { return joined_.size() == peers_.size(); };
  if (changed_.wait_for(lock, stop, timeout, complete)) return {};
  joined_.erase(rank);
  if (stop.stop_requested()) return Err(Code::kCancelled, "connecting rank {} was cancelled", rank);
  std::vector<std::string> missing;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank && !joined_.contains(peer)) missing.push_back(Name(peer));
  }
  return Err(Code::kDeadlineExceeded, "{} of {} peers did not join within {:.1f} s: {}",
             missing.size(), size() - 1, Seconds(timeout), fmt::join(missing, ", "));
}

void Meeting::Leave(int rank) {
  std::lock_guard lock(mutex_);
  left_.insert(rank);
  changed_.notify_all();
}

Status Meeting::Transfer(int rank, const std::string& operation, size_t total,
                         std::span<const SendTo> sends, std::span<const Read> reads,
                         Duration silence_timeout) {
  std::unique_lock lock(mutex_);
  if (revoked_) return Aborted();
  const Posts posts = PostAll(rank, operation, total, sends);
  Status status;
  for (const Read& read : reads) {
    if (status) status = ReadOne(lock, rank, operation, total, read, silence_timeout);
  }
  for (const auto& [peer, post] : posts) {
    const auto done = [&post] { return post->state == Post::State::kDone; };
    if (status) status = Await(lock, peer, silence_timeout, operation, done);
  }
  if (!status) AwaitReaders(lock, posts);
  return status;
}

Meeting::Posts Meeting::PostAll(int rank, const std::string& operation, size_t total,
                                std::span<const SendTo> sends) {
  Posts posts;
  for (const SendTo& send : sends) {
    auto post = std::make_shared<Post>(Post{operation, total, send.data});
    posts_[{rank, send.rank}].push_back(post);
    posts.emplace_back(send.rank, std::move(post));
  }
  changed_.notify_all();
  return posts;
}

Status Meeting::ReadOne(std::unique_lock<std::mutex>& lock, int rank, const std::string& operation,
                        size_t total, const Read& read, Duration silence_timeout) {
  auto& queue = posts_[{read.rank, rank}];
  MUSTER_TRY(
      Await(lock, read.rank, silence_timeout, operation, [&queue] { return !queue.empty(); }));
  const std::shared_ptr<Post> post = queue.front();
  if (post->operation != operation || post->total != total || post->data.size() != read.bytes) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} is in {} of {} bytes, {} in {} of {} bytes", Name(read.rank),
                            post->operation, std::max(post->total, post->data.size()), Name(rank),
                            operation, std::max(total, read.bytes)),
                std::nullopt);
  }
  queue.pop_front();
  post->state = Post::State::kBeingRead;
  lock.unlock();
  read.consume(post->data);
  lock.lock();
  post->state = Post::State::kDone;
  changed_.notify_all();
  return {};
}

Status Meeting::Await(std::unique_lock<std::mutex>& lock, int peer, Duration silence_timeout,
                      const std::string& operation, const std::function<bool()>& ready) {
  const auto settled = [&] { return revoked_ || ready() || left_.contains(peer); };
  const bool in_time = changed_.wait_for(lock, silence_timeout, settled);
  if (revoked_) return Aborted();
  if (ready()) return {};
  if (in_time) return Fail(Code::kAborted, Name(peer) + " closed the connection", peer);
  return Fail(Code::kDeadlineExceeded,
              fmt::format("{} was silent for {:.1f} s in {}", Name(peer), Seconds(silence_timeout),
                          operation),
              peer);
}

Status Meeting::CheckAll() {
  std::lock_guard lock(mutex_);
  if (revoked_) return Aborted();
  if (left_.empty()) return {};
  return Fail(Code::kAborted, Name(*left_.begin()) + " closed the connection", *left_.begin());
}

void Meeting::AwaitReaders(std::unique_lock<std::mutex>& lock, const Posts& posts) {
  for (const auto& [peer, post] : posts) {
    changed_.wait(lock, [&post] { return post->state != Post::State::kBeingRead; });
  }
}

void Meeting::Revoke(const std::string& reason, std::optional<int> lost_peer) {
  std::lock_guard lock(mutex_);
  if (!revoked_) (void)Fail(Code::kAborted, reason, lost_peer);
}

tl::unexpected<Error> Meeting::Fail(Code code, std::string reason, std::optional<int> lost_peer) {
  revoked_ = true;
  reason_ = reason;
  lost_peer_ = lost_peer;
  // Nobody reads a post after this: Await returns kAborted before it looks at the queue.
  posts_.clear();
  changed_.notify_all();
  return Err(code, "{}", reason);
}

tl::unexpected<Error> Meeting::Aborted() const {
  return Err(Code::kAborted, "the communicator was revoked: {}", reason_);
}

bool Meeting::revoked() const {
  std::lock_guard lock(mutex_);
  return revoked_;
}

std::string Meeting::revoke_reason() const {
  std::lock_guard lock(mutex_);
  return reason_;
}

std::optional<int> Meeting::lost_peer() const {
  std::lock_guard lock(mutex_);
  return lost_peer_;
}

std::string Meeting::Name(int rank) const {
  return fmt::format("peer {} ({})", rank, peers_[static_cast<size_t>(rank)].id);
}

}  // namespace muster
