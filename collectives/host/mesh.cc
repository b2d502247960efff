#include "collectives/host/mesh.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "runtime/base/check.h"

namespace muster::host {

Mesh::Mesh(uint64_t generation, Duration silence_timeout, std::vector<std::unique_ptr<Link>> links,
           std::shared_ptr<Listener> listener, Wakeup wakeup)
    : generation_(generation),
      silence_timeout_(silence_timeout),
      listener_(std::move(listener)),
      wakeup_(std::move(wakeup)),
      links_(std::move(links)) {}

Mesh::~Mesh() {
  for (auto& link : links_) {
    auto retired = link ? std::move(*link).Retire("") : std::nullopt;
    if (retired) listener_->Retire(std::move(*retired));
  }
}

Status Mesh::Operate(const std::string& name, const std::function<void()>& post, const Step& step) {
  if (!Enter()) return Aborted();
  post();
  return Leave(Progress(name, step));
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

bool Mesh::Enter() {
  std::lock_guard lock(mutex_);
  MUSTER_CHECK(!busy_ || end_, "two operations at once on generation {}", generation_);
  if (end_) return false;
  busy_ = true;
  return true;
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

std::optional<Trouble> Mesh::Progress(const std::string& name, const Step& step) {
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
    if (idle) return std::nullopt;
    if (auto trouble = Wait(name, !*worked && !arrived)) return trouble;
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

std::optional<Trouble> Mesh::Wait(const std::string& name, bool block) {
  poll_set_.assign(1, {.fd = wakeup_.fd(), .events = POLLIN});
  for (const auto& link : links_) poll_set_.push_back(link ? link->PollEntry() : pollfd{.fd = -1});
  const TimePoint asked = MonotonicNow();
  const int timeout = block ? PollTimeout(NextSilence(), asked) : 0;
  const int ready = ::poll(poll_set_.data(), poll_set_.size(), timeout);
  if (ready <= 0) return block ? CheckSilence(name, asked) : std::nullopt;
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
    if (link && link->Waits()) next = std::min(next, link->last_activity() + silence_timeout_);
  }
  return next;
}

// Peers that themselves wait for a silent one become silent too. The culprits are those that have got the least far.
std::optional<Trouble> Mesh::CheckSilence(const std::string& name, TimePoint asked) const {
  std::vector<const Link*> silent;
  for (const auto& link : links_) {
    if (!link || !link->Waits() || asked < link->last_activity() + silence_timeout_) continue;
    if (!silent.empty() && link->taken() < silent.front()->taken()) silent.clear();
    if (silent.empty() || link->taken() == silent.front()->taken()) silent.push_back(link.get());
  }
  if (silent.empty()) return std::nullopt;
  std::vector<std::string> names;
  for (const Link* link : silent) names.push_back(link->name());
  return Trouble{Code::kDeadlineExceeded,
                 fmt::format("no data for {:.1f} s in {} from {}", Seconds(silence_timeout_), name,
                             fmt::join(names, ", ")),
                 silent.size() == 1 ? std::optional(silent.front()->rank()) : std::nullopt};
}

}  // namespace muster::host
