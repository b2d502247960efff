#include "runtime/train/membership.h"

#include <fmt/ranges.h>

#include <utility>

#include "runtime/base/failpoint.h"
#include "runtime/base/log.h"

namespace muster {

Membership::Membership(MembershipOptions options, Backend& backend, MembershipCallbacks callbacks)
    : options_(std::move(options)),
      backend_(backend),
      callbacks_(std::move(callbacks)),
      core_(options_.worker),
      builder_([this](std::stop_token stop) { BuildLoop(stop); }) {}

Membership::~Membership() {
  std::unique_ptr<ControlLine> line;
  {
    std::lock_guard lock(mutex_);
    line = std::move(line_);
    build_stop_.request_stop();
    serving_stop_.request_stop();
  }
  line.reset();  // no order arrives any more
  builder_.request_stop();
  changed_.notify_all();
}

void Membership::Start(const ControlLineFactory& open_line) {
  if (!open_line) {
    Order order;
    order.urgent = true;
    order.reason = "training alone";
    order.generation = {1, {{options_.worker, options_.incarnation, backend_.address()}}};
    OnOrder(order);
    return;
  }
  auto line = open_line({[this] { return MakeHello(); }, [this] { return MakeProgress(); },
                         [this](const Order& order) { OnOrder(order); }});
  std::lock_guard lock(mutex_);
  line_ = std::move(line);
}

Hello Membership::MakeHello() {
  Hello hello;
  {
    std::lock_guard lock(mutex_);
    hello.worker = options_.worker;
    hello.incarnation = options_.incarnation;
    hello.address = backend_.address();
    hello.generation = core_.broken() || entered_ != core_.active() ? 0 : entered_;
    hello.entering = core_.entering();
    hello.revoked = core_.revoked();
  }
  callbacks_.fill_hello(hello);
  return hello;
}

Report Membership::MakeProgress() {
  Report report;
  {
    std::lock_guard lock(mutex_);
    report.worker = options_.worker;
    report.incarnation = options_.incarnation;
    report.generation = entered_ == core_.active() ? entered_ : 0;
    report.prepared = std::max(connected_, core_.active());
  }
  callbacks_.fill_report(report);
  return report;
}

// --- Orders -------------------------------------------------------------------------------------------------------------

void Membership::OnOrder(const Order& order) {
  (void)Failpoint("order.received");
  std::lock_guard lock(mutex_);
  if (order.kind == Order::Kind::kRejoin) log::info("rejoins reason=\"{}\"", order.reason);
  if (order.kind == Order::Kind::kGeneration) {
    log::debug("order=generation number={} members={} urgent={} reason=\"{}\"",
               order.generation.number, order.generation.members.size(), order.urgent,
               order.reason);
  }
  Carry(core_.OnOrder(order));
}

void Membership::Carry(std::vector<MemberAction> actions) {
  for (MemberAction& action : actions) {
    std::visit([this](auto& a) { Do(a); }, action);
  }
  changed_.notify_all();
}

void Membership::Do(BuildGeneration& action) {
  to_build_ = std::move(action);
  ordered_at_ = MonotonicNow();
  build_stop_.request_stop();  // of an older one, which nobody wants any more
  build_stop_ = std::stop_source();
}

void Membership::Do(DiscardBuild& action) {
  if (to_build_ && to_build_->generation.number == action.number) to_build_.reset();
  if (connected_ == action.number) connected_ = 0;
  if (built_ && built_->generation.number == action.number) built_.reset();
  if (enter_ == action.number) enter_ = 0;
  build_stop_.request_stop();
}

void Membership::Do(RevokeActive& action) {
  if (active_) active_->Revoke(action.reason);
}

void Membership::Do(EnterGeneration& action) { enter_ = action.number; }

void Membership::Do(SayHello&) { say_hello_ = true; }

void Membership::Do(Leave& action) { log::info("released reason=\"{}\"", action.reason); }

void Membership::Do(SendReport& action) { SendLocked(std::move(action.report)); }

// --- Building -----------------------------------------------------------------------------------------------------------

void Membership::BuildLoop(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return to_build_.has_value(); })) {
    const BuildGeneration build = *std::exchange(to_build_, std::nullopt);
    building_ = build.generation.number;
    const std::stop_token build_stop = build_stop_.get_token();
    const TimePoint ordered_at = ordered_at_;
    lock.unlock();
    std::vector<std::string> unreachable;
    auto connected = Connect(build.generation, build_stop, unreachable);
    lock.lock();
    if (build_stop.stop_requested()) continue;
    if (!connected) {
      log::info("generation={} unreachable=\"{}\" reason=\"{}\"", building_,
                fmt::join(unreachable, " "), connected.error().message);
      Carry(core_.OnBuildFailed(building_, connected.error().message, std::move(unreachable)));
      continue;
    }
    connected_ = building_;
    BuiltGeneration built{
        std::move(*connected), build.generation, {}, Milliseconds(MonotonicNow() - ordered_at)};
    if (build.planned) {
      CatchUpIn(std::move(built), build_stop, lock);
    } else {
      Offer(built);
    }
  }
}

Result<std::unique_ptr<Communicator>> Membership::Connect(const Generation& generation,
                                                          const std::stop_token& stop,
                                                          std::vector<std::string>& unreachable) {
  std::vector<int> missing;
  ConnectRequest request;
  request.generation = generation.number;
  request.rank = generation.RankOf(options_.worker);
  request.connect_timeout =
      options_.connect_timeout + options_.connect_timeout_each * generation.members.size();
  request.operation_timeout = options_.operation_timeout;
  request.heartbeat_timeout = options_.heartbeat_timeout;
  request.missing = &missing;
  for (const Member& member : generation.members) {
    request.peers.push_back({member.worker, member.address});
  }
  (void)Failpoint("build.started");
  auto connected = backend_.Connect(request, stop);
  for (const int rank : missing) unreachable.push_back(request.peers[static_cast<size_t>(rank)].id);
  (void)Failpoint("build.ended");
  return connected;
}

// Offers `built` when those who join have what they need, and goes on until nobody needs this process for it.
void Membership::CatchUpIn(BuiltGeneration built, const std::stop_token& stop,
                           std::unique_lock<std::mutex>& lock) {
  const uint64_t number = built.generation.number;
  const uint64_t trains_in = core_.broken() ? 0 : core_.active();
  // Whoever takes no steps has its state filled: its trainer must not touch it.
  if (trains_in == 0 && !changed_.wait(lock, stop, [this] { return parked_; })) return;
  catching_up_ = trains_in == 0;
  lock.unlock();
  const auto ready = [&](const std::vector<int>& veterans) {
    std::lock_guard offer(mutex_);
    built.veterans = veterans;
    if (!stop.stop_requested()) Offer(built);
  };
  const Status ended = callbacks_.catch_up(*built.communicator, trains_in, ready, stop);
  lock.lock();
  catching_up_ = false;
  changed_.notify_all();
  if (ended || stop.stop_requested()) return;
  built.communicator->Revoke(ended.error().message);
  if (built_ && built_->generation.number == number) built_.reset();
  if (connected_ == number) connected_ = 0;
  Carry(core_.OnBuildFailed(number, ended.error().message));
}

void Membership::Offer(const BuiltGeneration& built) {
  built_ = built;
  Carry(core_.OnBuilt(built.generation.number));
}

// --- The trainer's side ---------------------------------------------------------------------------------------------------

Result<BuiltGeneration> Membership::AwaitGeneration() {
  std::unique_lock lock(mutex_);
  parked_ = true;
  changed_.notify_all();
  Result<BuiltGeneration> next = AwaitOrder(lock);
  if (!next) build_stop_.request_stop();
  changed_.wait(lock, [this] { return !catching_up_; });  // it has been stopped, or is done
  parked_ = false;
  return next;
}

Result<BuiltGeneration> Membership::AwaitOrder(std::unique_lock<std::mutex>& lock) {
  if (std::exchange(say_hello_, false) && line_) line_->SayHello();
  const auto ready = [this] {
    return core_.released() || say_hello_ ||
           (enter_ != 0 && built_ && built_->generation.number == enter_);
  };
  const TimePoint deadline = MonotonicNow() + options_.order_timeout;
  while (true) {
    if (!changed_.wait_until(lock, deadline, ready)) {
      return WithHint(Err(Code::kDeadlineExceeded, "{} waited {:.0f} s for a generation to enter",
                          options_.worker, Seconds(options_.order_timeout)),
                      "the coordinator is not there or has not enough workers; see its log");
    }
    if (core_.released()) return Err(Code::kCancelled, "released by the coordinator");
    if (!std::exchange(say_hello_, false)) break;
    active_.reset();
    if (line_) line_->SayHello();
  }
  enter_ = 0;
  return *std::exchange(built_, std::nullopt);
}

Membership::Prepared Membership::prepared() {
  std::lock_guard lock(mutex_);
  Prepared prepared;
  prepared.number = core_.prepared();
  if (prepared.number != 0 && core_.ordered_has_me()) prepared.built = built_;
  return prepared;
}

Status Membership::Entering(const BuiltGeneration& built) {
  std::lock_guard lock(mutex_);
  if (!core_.OnEntering(built.generation.number)) {
    return Err(Code::kAborted, "generation {} goes on without {}", built.generation.number,
               options_.worker);
  }
  active_ = built.communicator;
  // What the builder still sends in it must arrive, whatever is ordered next.
  if (building_ == built.generation.number) serving_stop_ = std::exchange(build_stop_, {});
  if (built_ && built_->generation.number <= built.generation.number) built_.reset();
  return {};
}

void Membership::Entered(uint64_t number) {
  std::lock_guard lock(mutex_);
  core_.OnEntered(number);
  entered_ = number;
}

void Membership::Left() {
  std::lock_guard lock(mutex_);
  active_.reset();
  Carry(core_.OnLeft());
}

void Membership::Broken(const BuiltGeneration& built, const Error& error) {
  std::lock_guard lock(mutex_);
  const auto name = [&](int rank) {
    return built.generation.members[static_cast<size_t>(rank)].worker;
  };
  std::string lost;
  if (const auto rank = built.communicator->lost_peer()) lost = name(*rank);
  std::vector<std::string> silent;
  for (const int rank : built.communicator->silent_peers()) silent.push_back(name(rank));
  log::info("generation={} broken reason=\"{}\" lost={}", built.generation.number, error.message,
            lost.empty() ? "-" : lost);
  built.communicator->Revoke(error.message);
  if (active_ == built.communicator) active_.reset();
  Carry(core_.OnBroken(built.generation.number, error.message, lost, std::move(silent)));
}

void Membership::Send(Report report) {
  std::lock_guard lock(mutex_);
  SendLocked(std::move(report));
}

void Membership::SendLocked(Report report) {
  if (!line_) return;
  report.worker = options_.worker;
  report.incarnation = options_.incarnation;
  callbacks_.fill_report(report);
  line_->Send(report);
}

Status Membership::Flush(TimePoint deadline) { return line_ ? line_->Flush(deadline) : Status{}; }

bool Membership::stop_requested() {
  std::lock_guard lock(mutex_);
  return core_.stop_requested();
}

bool Membership::released() {
  std::lock_guard lock(mutex_);
  return core_.released();
}

uint64_t Membership::entered_generation() {
  std::lock_guard lock(mutex_);
  return entered_;
}

}  // namespace muster
