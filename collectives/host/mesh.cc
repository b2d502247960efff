#include "collectives/host/mesh.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "runtime/base/check.h"

namespace muster::host {

namespace {

constexpr int kBeatsInTimeout = 10;
constexpr auto kOften = std::chrono::microseconds(20);
constexpr auto kSeldom = std::chrono::hours(1);

timespec ToTimespec(Duration duration) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(duration);
  return {.tv_sec = seconds.count(),
          .tv_nsec = std::chrono::nanoseconds(duration - seconds).count()};
}

}  // namespace

Mesh::Mesh(const ConnectRequest& request, std::vector<std::unique_ptr<Link>> links,
           std::shared_ptr<Listener> listener, Wakeup wakeup)
    : generation_(request.generation),
      operation_timeout_(request.operation_timeout),
      heartbeat_timeout_(request.heartbeat_timeout),
      listener_(std::move(listener)),
      wakeup_(std::move(wakeup)),
      links_(std::move(links)) {
  if (heartbeat_timeout_ == Duration::zero()) return;
  next_beat_ = MonotonicNow();
  for (auto& link : links_) {
    if (link) link->set_after_copy([this] { BeatIfDue(MonotonicNow()); });
  }
  listener_->StartHeartbeat(this, heartbeat_timeout_ / kBeatsInTimeout, [this] { Beat(); });
}

Mesh::~Mesh() {
  listener_->EndHeartbeat(this);
  for (auto& link : links_) {
    auto retired = link ? std::move(*link).Retire("") : std::nullopt;
    if (retired) listener_->Retire(std::move(*retired));
  }
}

Status Mesh::Operate(const std::string& name, const std::function<void()>& post, const Step& step,
                     const std::function<bool()>& more) {
  if (!Enter()) return Aborted();
  post();
  return Leave(Progress(name, step, more));
}

tl::unexpected<Error> Mesh::Refuse(const std::string& reason) {
  if (!Enter()) return Aborted();
  const Status status = Leave(Trouble{Code::kInvalidArgument, reason, std::nullopt});
  return tl::unexpected<Error>(status.error());
}

void Mesh::Revoke(const std::string& reason) {
  {
    std::lock_guard lock(mutex_);
    if (end_) return;
    end_ = Trouble{Code::kAborted, reason, std::nullopt};
    if (busy_) return wakeup_.Signal();
    busy_ = true;
  }
  (void)Leave(std::nullopt);
}

bool Mesh::revoked() const {
  std::lock_guard lock(mutex_);
  return end_.has_value();
}

std::string Mesh::revoke_reason() const {
  std::lock_guard lock(mutex_);
  return end_ ? end_->reason : "";
}

std::optional<int> Mesh::lost_peer() const {
  std::lock_guard lock(mutex_);
  return end_ ? end_->lost_peer : std::nullopt;
}

std::vector<int> Mesh::silent_peers() const {
  std::lock_guard lock(mutex_);
  return end_ ? end_->silent_peers : std::vector<int>();
}

bool Mesh::Enter() {
  std::unique_lock lock(mutex_);
  beating_over_.wait(lock, [this] { return !beating_; });
  MUSTER_CHECK(!busy_ || end_, "two operations at once on generation {}", generation_);
  if (end_) return false;
  busy_ = true;
  return true;
}

// While an operation runs, its thread does this: it alone knows what is half sent.
void Mesh::Beat() {
  {
    std::lock_guard lock(mutex_);
    if (busy_ || end_) return;
    busy_ = beating_ = true;
  }
  BeatLinks(MonotonicNow());
  (void)Leave(std::nullopt);
  {
    std::lock_guard lock(mutex_);
    beating_ = false;
  }
  beating_over_.notify_all();
}

void Mesh::BeatIfDue(TimePoint now) {
  if (now >= next_beat_) BeatLinks(now);
}

void Mesh::BeatLinks(TimePoint now) {
  next_beat_ = now + heartbeat_timeout_ / kBeatsInTimeout;
  for (auto& link : links_) {
    if (link) link->Beat();
  }
}

// The one way out: a revocation that came while the links were in use is passed on here.
Status Mesh::Leave(const std::optional<Trouble>& trouble) {
  bool first = false;
  {
    std::lock_guard lock(mutex_);
    first = trouble && !end_;
    if (first) end_ = trouble;
    if (!end_) {
      busy_ = false;
      return {};
    }
  }
  Flood();
  return first ? tl::unexpected<Error>(Error{trouble->code, trouble->reason, {}}) : Aborted();
}

// From here on the links are gone, so busy_ stays set and nobody touches them again.
void Mesh::Flood() {
  const std::string last_words = RevokeFrame(revoke_reason(), lost_peer());
  for (auto& link : links_) {
    auto retired = link ? std::move(*link).Retire(last_words) : std::nullopt;
    if (retired) listener_->Retire(std::move(*retired));
    link.reset();
  }
}

tl::unexpected<Error> Mesh::Aborted() const {
  return Err(Code::kAborted, "generation {} was revoked: {}", generation_, revoke_reason());
}

std::optional<Trouble> Mesh::Progress(const std::string& name, const Step& step,
                                      const std::function<bool()>& more) {
  const TimePoint start = MonotonicNow();
  for (auto& link : links_) {
    if (link) link->BeginOperation(start);
  }
  while (!revoked()) {
    const auto worked = step();
    if (!worked) return worked.error();
    bool idle = true;
    bool arrived = false;
    if (auto trouble = AdvanceLinks(!*worked, idle, arrived)) return trouble;
    const bool waits_for_more = more();
    if (idle && !waits_for_more) return std::nullopt;
    const Duration longest = *worked || arrived ? Duration::zero()
                             : waits_for_more   ? Duration(kOften)
                                                : Duration(kSeldom);
    if (auto trouble = Wait(name, longest)) return trouble;
  }
  return std::nullopt;
}

std::optional<Trouble> Mesh::AdvanceLinks(bool answer, bool& idle, bool& arrived) {
  for (auto& link : links_) {
    if (!link) continue;
    (void)link->TakeArrived();
    if (auto trouble = link->Resume()) return trouble;
    if (auto trouble = link->Write(answer)) return trouble;
    // A peer may close before us when nothing more is needed from it.
    if (link->closed() && link->NeedsPeer()) return link->Lost();
    idle &= link->Idle();
    arrived |= link->TakeArrived();
  }
  return std::nullopt;
}

std::optional<Trouble> Mesh::Wait(const std::string& name, Duration longest) {
  poll_set_.assign(1, {.fd = wakeup_.fd(), .events = POLLIN});
  for (const auto& link : links_) poll_set_.push_back(link ? link->PollEntry() : pollfd{.fd = -1});
  const TimePoint asked = MonotonicNow();
  BeatIfDue(asked);
  const timespec timeout = ToTimespec(
      std::clamp(std::min(NextSilence(), next_beat_) - asked, Duration::zero(), longest));
  const int ready = ::ppoll(poll_set_.data(), poll_set_.size(), &timeout, nullptr);
  if (ready <= 0) return longest > Duration::zero() ? CheckSilence(name, asked) : std::nullopt;
  for (size_t i = 0; i < links_.size(); ++i) {
    const bool readable = (poll_set_[i + 1].revents & ~POLLOUT) != 0;
    if (!readable) continue;
    if (auto trouble = links_[i]->Read()) return trouble;
  }
  return CheckSilence(name, asked);
}

TimePoint Mesh::NextSilence() const {
  TimePoint next = TimePoint::max();
  for (const auto& link : links_) {
    if (!link || !link->Waits()) continue;
    next = std::min(next, link->last_activity() + operation_timeout_);
    if (heartbeat_timeout_ > Duration::zero()) {
      next = std::min(next, link->last_heard() + heartbeat_timeout_);
    }
  }
  return next;
}

std::optional<Trouble> Mesh::CheckSilence(const std::string& name, TimePoint asked) const {
  if (heartbeat_timeout_ > Duration::zero()) {
    const auto silent = Overdue(asked, heartbeat_timeout_, &Link::last_heard);
    if (!silent.empty()) {
      Trouble trouble = Blame(silent, "sign of life", heartbeat_timeout_, name);
      for (const Link* link : silent) trouble.silent_peers.push_back(link->rank());
      return trouble;
    }
  }
  auto late = Overdue(asked, operation_timeout_, &Link::last_activity);
  if (late.empty()) return std::nullopt;
  // Peers that themselves wait for a late one bring nothing either. The culprits are those that have got the least far.
  const uint64_t least = (*std::ranges::min_element(late, {}, &Link::taken))->taken();
  std::erase_if(late, [least](const Link* link) { return link->taken() > least; });
  return Blame(late, "data", operation_timeout_, name);
}

std::vector<const Link*> Mesh::Overdue(TimePoint asked, Duration timeout,
                                       TimePoint (Link::*last)() const) const {
  std::vector<const Link*> overdue;
  for (const auto& link : links_) {
    if (link && link->Waits() && asked >= (*link.*last)() + timeout) overdue.push_back(link.get());
  }
  return overdue;
}

Trouble Mesh::Blame(const std::vector<const Link*>& links, std::string_view wanted,
                    Duration timeout, const std::string& name) {
  std::vector<std::string> names;
  for (const Link* link : links) names.push_back(link->name());
  return {Code::kDeadlineExceeded,
          fmt::format("no {} for {:.1f} s in {} from {}", wanted, Seconds(timeout), name,
                      fmt::join(names, ", ")),
          links.size() == 1 ? std::optional(links.front()->rank()) : std::nullopt,
          {}};
}

}  // namespace muster::host
