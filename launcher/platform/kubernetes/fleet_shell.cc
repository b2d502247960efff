#include "launcher/platform/kubernetes/fleet_shell.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "k8s/client/json_fields.h"
#include "launcher/platform/kubernetes/fleet_json.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/pod_view.h"

namespace muster::kubernetes {
namespace {

using fleet::CreateAnswered;
using fleet::CreatePod;
using fleet::FleetAction;
using fleet::FleetEvent;

// The record may turn out to be another's at any time, and others write it too.
constexpr Duration kLongestWait = std::chrono::milliseconds(500);

const std::string kListing = "list of pods";
const std::string kWatching = "watch of pods";
const std::string kCreating = "creation of pods";
const std::string kDeleting = "deletion of pods";
const std::string kRecording = "record of the run";

FleetShellOptions WithOwner(FleetShellOptions options, const std::string& uid) {
  options.run.owner_uid = uid;
  return options;
}

k8s::InformerOptions InformerOptionsOf(const FleetShellOptions& options) {
  return {.resource = k8s::kPods,
          .namespace_name = options.run.namespace_name,
          .label_selector = fmt::format("{}={},{}=worker", kRunLabel, RunLabel(options.run.spec),
                                        kComponentLabel),
          .times = options.watch};
}

FleetEvent EventOf(const k8s::Change& change) {
  fleet::PodView view = ViewOfPod(*change.object);
  if (change.kind != k8s::ChangeKind::kDeleted) return fleet::PodSeen{std::move(view)};
  return fleet::PodGone{std::move(view.name), std::move(view.uid)};
}

// What a list lacks has not been seen to go; FleetCore judges that by itself.
std::vector<FleetEvent> EventsOf(const k8s::WatchUpdate& update) {
  std::vector<FleetEvent> events;
  if (update.synced) {
    fleet::PodsListed listed{{}, update.asked};
    for (const auto& pod : update.listed) listed.pods.push_back(ViewOfPod(*pod));
    events.emplace_back(std::move(listed));
  } else {
    for (const k8s::Change& change : update.changes) events.push_back(EventOf(change));
  }
  return events;
}

}  // namespace

FleetShell::FleetShell(k8s::ApiClient& client, RunRecord& record, FleetShellOptions options,
                       FleetListener& listener)
    : options_(WithOwner(std::move(options), record.uid())),
      record_(record),
      listener_(listener),
      slots_(options_.run),
      core_(options_.fleet, options_.saved),
      random_(std::random_device{}()),
      requests_(
          client, options_.run, options_.request_threads,
          [this] { return record_.Ours().has_value(); },
          [this](PodReply reply) {
            Post([this, reply = std::move(reply)] {
              if (reply.fault) Report(reply.create ? kCreating : kDeleting, *reply.fault);
              Handle(reply.event);
            });
          }),
      writer_(record, options_.record_timeout,
              [this](uint64_t number, const Status& written) {
                Post([this, number, written] { Saved(number, written); });
              }),
      informer_(&client, InformerOptionsOf(options_),
                [this](const k8s::WatchUpdate& update) { PostUpdate(update); }),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

FleetShell::~FleetShell() = default;

void FleetShell::MembersChanged(const std::vector<std::string>& slots) {
  Post([this, slots] {
    std::set<std::string> members;
    for (const std::string& slot : slots) {
      if (std::string pod = slots_.PodOf(slot); !pod.empty()) members.insert(std::move(pod));
    }
    std::swap(members, members_);
    // Those that come first: a ring that is replaced as a whole has not been lost.
    for (const std::string& pod : members_) {
      if (!members.contains(pod)) Handle(fleet::MemberJoined{pod});
    }
    for (const std::string& pod : members) {
      if (!members_.contains(pod)) Handle(fleet::MemberLeft{pod});
    }
  });
}

void FleetShell::Resize(int min_workers, int max_workers) {
  Post([this, pods = PodsFor(options_.run, {min_workers, max_workers})] {
    Handle(fleet::Resized{pods});
  });
}

void FleetShell::Stop(const std::string& reason) {
  Post([this, reason] { Handle(fleet::Stopped{reason}); });
}

bool FleetShell::WaitUntilDone(TimePoint deadline) {
  MutexLock lock(mutex_);
  ended_.wait_until(mutex_, deadline, [this]() REQUIRES(mutex_) { return done_ || fenced_; });
  return done_;
}

void FleetShell::RecordWritten(const Status& written) {
  Post([this, fault = written ? "" : written.error().ToString()] { Report(kRecording, fault); });
}

std::string FleetShell::StatusJson() const {
  fleet::FleetStatus status;
  std::vector<std::string> faults;
  {
    MutexLock lock(mutex_);
    status = core_.Status();
    faults = faults_.Lasting();
  }
  return ToJson(status, faults);
}

void FleetShell::Post(Task task) {
  MutexLock lock(mutex_);
  if (fenced_) return;
  tasks_.push_back(std::move(task));
  arrived_.notify_one();
}

// The informer's thread, which has the time to read what it got.
void FleetShell::PostUpdate(const k8s::WatchUpdate& update) {
  Post([this, events = EventsOf(update), synced = update.synced, note = update.note,
        works = update.watching || (!update.synced && !update.changes.empty())] {
    if (synced) Report(kListing, "");
    if (works) Report(kWatching, "");
    if (!note.empty()) Report(note.starts_with("cannot list") ? kListing : kWatching, note);
    for (const FleetEvent& event : events) Handle(event);
  });
}

void FleetShell::Run(const std::stop_token& stop) {
  ::pthread_setname_np(::pthread_self(), "muster-fleet");
  Handle(fleet::TimePassed{});
  while (!stop.stop_requested() && !LookForFence()) {
    TellOffer();
    TellFaults();
    for (Task& task : WaitForTasks(stop)) {
      if (stop.stop_requested() || LookForFence()) return;
      task();
    }
    GiveUpHeldCreates();
  }
}

std::deque<FleetShell::Task> FleetShell::WaitForTasks(const std::stop_token& stop) {
  const TimePoint now = MonotonicNow();
  bool due = false;
  std::deque<Task> tasks;
  {
    MutexLock lock(mutex_);
    const TimePoint wake = std::min({core_.wake(), faults_.wake(), now + kLongestWait});
    arrived_.wait_until(mutex_, stop, std::max(wake, now),
                        [this]() REQUIRES(mutex_) { return !tasks_.empty(); });
    tasks.swap(tasks_);
    due = core_.wake() <= MonotonicNow();
  }
  if (due) tasks.emplace_front([this] { Handle(fleet::TimePassed{}); });
  return tasks;
}

void FleetShell::Handle(const FleetEvent& event) {
  fleet::FleetDecision decision;
  {
    MutexLock lock(mutex_);
    const double jitter = std::uniform_real_distribution<double>(0, 1)(random_);
    decision = core_.Handle(event, MonotonicNow(), jitter);
    done_ = core_.done();
    if (done_) ended_.notify_all();
  }
  offer_is_old_ = true;
  Act(std::move(decision.actions));
}

void FleetShell::Act(std::vector<FleetAction> actions) {
  const TimePoint now = MonotonicNow();
  bool after_persist = false;
  for (FleetAction& action : actions) {
    if (const auto* persist = std::get_if<fleet::Persist>(&action)) {
      writer_.Write(persist->saved, ++asked_);
      after_persist = true;
      continue;
    }
    // The serials of a later decision may be those that are not durable yet.
    const bool waits = after_persist || std::holds_alternative<CreatePod>(action);
    if (waits && durable_ < asked_) {
      held_.push_back({asked_, now, std::move(action)});
    } else {
      Perform(action, now);
    }
  }
}

void FleetShell::Perform(const FleetAction& action, TimePoint since) {
  if (const auto* create = std::get_if<CreatePod>(&action)) {
    // An answer that comes after FleetCore has given up waiting for it would be of less use.
    requests_.Create(*create, since + options_.fleet.create_timeout * 5 / 6);
  } else if (const auto* gone = std::get_if<fleet::DeletePod>(&action)) {
    requests_.Delete(*gone, MonotonicNow() + options_.fleet.delete_timeout);
  } else if (const auto* lost = std::get_if<fleet::PodLost>(&action)) {
    TellLost(*lost);
  } else if (const auto* emit = std::get_if<fleet::Emit>(&action)) {
    listener_.Note(emit->kind, emit->message);
  } else if (const auto* fail = std::get_if<fleet::FailJob>(&action)) {
    listener_.Fail(fail->exit_code, fail->message);
  } else if (std::holds_alternative<fleet::ListPods>(action)) {
    informer_.ListAgain();
  }
  // Notice and Explain: Offer and StatusJson show what they say.
}

void FleetShell::Saved(uint64_t number, const Status& written) {
  Report(kRecording, written ? "" : written.error().ToString());
  if (!written) return;
  durable_ = std::max(durable_, number);
  while (!held_.empty() && held_.front().number <= durable_) {
    const Held held = std::move(held_.front());
    held_.pop_front();
    Perform(held.action, held.since);
  }
}

// Before FleetCore takes them for lost: these have certainly not been sent.
void FleetShell::GiveUpHeldCreates() {
  const TimePoint oldest = MonotonicNow() - options_.fleet.create_timeout / 2;
  std::vector<std::string> names;
  std::erase_if(held_, [&](const Held& held) {
    const auto* create = std::get_if<CreatePod>(&held.action);
    if (create == nullptr || held.since > oldest) return false;
    names.push_back(create->name);
    return true;
  });
  for (const std::string& name : names) {
    Handle(CreateAnswered{.name = name,
                          .result = CreateAnswered::Result::kBusy,
                          .retry_after = options_.fleet.create_timeout / 6});
  }
}

void FleetShell::TellLost(const fleet::PodLost& lost) {
  const int exit_code = lost.signal == 0 ? lost.exit_code.value_or(-1) : -1;
  for (const std::string& slot : slots_.OfPod(lost.pod)) {
    listener_.Lost(slot, exit_code, lost.signal, lost.reason);
  }
}

void FleetShell::TellOffer() {
  if (!std::exchange(offer_is_old_, false)) return;
  std::optional<std::vector<fleet::StandingPod>> standing;
  {
    MutexLock lock(mutex_);
    standing = core_.Standing();
  }
  if (!standing) return;
  Offered offer;
  for (const fleet::StandingPod& pod : *standing) {
    for (std::string& slot : slots_.OfPod(pod.pool, pod.serial)) {
      if (pod.leaving.empty()) {
        offer.slots.push_back(std::move(slot));
      } else {
        offer.leaving[slot] = pod.leaving;
      }
    }
  }
  if (offered_ == offer) return;
  offered_ = std::move(offer);
  listener_.Offer(offered_->slots, offered_->leaving);
}

void FleetShell::TellFaults() {
  std::vector<FaultNote> notes;
  {
    MutexLock lock(mutex_);
    notes = faults_.Take(MonotonicNow());
  }
  for (const FaultNote& note : notes) {
    listener_.Note(note.over ? "api-recovered" : "api-fault", note.message);
  }
}

void FleetShell::Report(const std::string& what, const std::string& fault) {
  MutexLock lock(mutex_);
  if (fault.empty()) {
    faults_.Worked(what, MonotonicNow());
  } else {
    faults_.Failed(what, fault, MonotonicNow());
  }
}

bool FleetShell::LookForFence() {
  const Status ours = record_.Ours();
  if (ours) return false;
  {
    MutexLock lock(mutex_);
    if (fenced_) return true;
    fenced_ = true;
    ended_.notify_all();
  }
  listener_.Fenced(ours.error().message);
  return true;
}

}  // namespace muster::kubernetes
