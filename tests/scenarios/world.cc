#include "tests/scenarios/world.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <csignal>
#include <utility>

namespace muster::scenario {

namespace {

const TimePoint kBeginning = TimePoint() + std::chrono::hours(1);

}  // namespace

World::World(WorldOptions options)
    : options_(std::move(options)),
      now_(kBeginning),
      oracle_(options_.program),
      next_heartbeat_(now_),
      traced_at_(now_) {}

World::~World() = default;

// --- The coordinator ----------------------------------------------------------------------------------------------------

void World::StartCoordinator() {
  coordinator_ = std::make_unique<Coordinator>(
      options_.coordinator, persisted_ ? std::optional(durable_) : std::nullopt, now_);
  Trace("", "coordinator", persisted_ ? "starts again" : "starts");
  CarryOut(coordinator_->Start(now_));
  for (auto& [who, slot] : slots_) {
    if (slot.agent) slot.events.push_front(AgentAttached{who});
  }
}

void World::KillCoordinator() {
  if (!coordinator_) return;
  Trace("", "coordinator", "dies");
  coordinator_.reset();
  actions_left_ = -1;
  lost_streams_.clear();
  for (auto& [who, slot] : slots_) {
    // What it had written to an agent arrives: an agent asks for nothing twice (see README.md, what is left out).
    std::erase_if(slot.events,
                  [](const auto& event) { return std::holds_alternative<AgentAttached>(event); });
    if (!slot.process) continue;
    slot.process->connected = false;
    slot.process->orders.clear();
  }
}

void World::Tell(const CoordinatorEvent& event) {
  if (!coordinator_) return;
  const Phase before = coverage_ == nullptr ? Phase::kPending : coordinator_->Status().phase;
  const std::vector<CoordinatorAction> actions = coordinator_->Handle(event, now_);
  if (coverage_ != nullptr) coverage_->Coordinator(before, event, actions);
  const auto* reported = std::get_if<WorkerReported>(&event);
  const bool routine = std::holds_alternative<Tick>(event) ||
                       std::holds_alternative<AgentAttached>(event) ||
                       (reported != nullptr && reported->report.kind == Report::Kind::kProgress);
  if (tracing_ && (!routine || !actions.empty())) Trace("", "coordinator", "<- " + Text(event));
  CarryOut(actions);
}

std::optional<std::string> World::ResizeObjection(int min_workers, int max_workers) const {
  return coordinator_ ? coordinator_->ResizeObjection(min_workers, max_workers)
                      : "there is no coordinator";
}

void World::CarryOut(const std::vector<CoordinatorAction>& actions) {
  for (const CoordinatorAction& action : actions) {
    if (actions_left_ == 0) return KillCoordinator();
    if (actions_left_ > 0) --actions_left_;
    std::visit([this](const auto& a) { Perform(a); }, action);
  }
}

void World::Perform(const Persist& action) {
  const std::string news = tracing_ ? Difference(durable_, action.state) : "";
  if (!news.empty()) Trace("  ", "persist", news);
  if (action.state.last_generation < durable_.last_generation)
    oracle_.Violate("generation numbers went back");
  durable_ = action.state;
  persisted_ = true;
}

void World::Perform(const SendOrder& action) {
  if (tracing_) Trace("  -> ", action.worker, Text(action.order));
  if (action.order.kind == Order::Kind::kGeneration) {
    const Generation& generation = action.order.generation;
    oracle_.Heard(generation);
    if (durable_.active != generation && durable_.proposed != generation) {
      oracle_.Violate(
          fmt::format("generation {} was ordered before it was persisted", generation.number));
    }
  }
  const auto found = slots_.find(action.worker);
  if (found == slots_.end() || !found->second.process) return;
  Process& process = *found->second.process;
  if (process.connected && process.worker->incarnation() == action.incarnation)
    process.orders.push_back(action.order);
}

void World::Perform(const SendAgent& action) {
  static constexpr const char* kNames[] = {"restart the worker", "shut down", "shut down now"};
  Trace("  -> agent ", action.slot,
        fmt::format("{}: {}", kNames[static_cast<int>(action.kind)], action.reason));
  const auto found = slots_.find(action.slot);
  if (found != slots_.end() && found->second.agent) found->second.orders.push_back(action);
}

void World::Perform(const SetSlots& action) {
  if (action.slots != wanted_slots_)
    Trace("  ", "slots", fmt::format("{}", fmt::join(action.slots, " ")));
  for (const std::string& who : wanted_slots_) SlotOf(who).wanted = false;
  wanted_slots_ = action.slots;
  for (const std::string& who : wanted_slots_) SlotOf(who).wanted = true;
}

void World::Perform(const EmitEvent& action) {
  Trace("  event ", action.kind, action.message);
  events_.push_back(action);
}

void World::Perform(const FinishJob& action) {
  std::string text = fmt::format("{}, exit code {}: {}", PhaseName(action.phase), action.exit_code,
                                 action.message);
  if (action.result) text += fmt::format(" (step {})", action.result->step);
  if (!action.failed_worker.empty()) text += fmt::format(" (blames {})", action.failed_worker);
  Trace("  ", "the job ends", text);
  if (end_) oracle_.Violate("the job ended twice");
  end_ = action;
  actions_left_ = -1;  // nobody starts a coordinator again once the job has ended
}

// --- Processes ----------------------------------------------------------------------------------------------------------

World::Slot& World::SlotOf(const std::string& who) {
  const auto [place, first] = slots_.try_emplace(who);
  if (first) places_.push_back(&*place);
  return place->second;
}

void World::Spawn(const std::string& who) {
  Slot& slot = SlotOf(who);
  slot.agent.emplace(AgentPolicy{});
  if (coordinator_) slot.events.push_back(AgentAttached{who});
  Do(who, slot.agent->Start(now_));
}

void World::Do(const std::string& who, std::vector<AgentAction> actions) {
  for (const AgentAction action : actions) {
    switch (action) {
      case AgentAction::kStartWorker:
        StartProcess(who);
        break;
      case AgentAction::kTerminate:
        if (!frozen(who)) EndProcess(who, -1, SIGTERM);
        break;
      case AgentAction::kKill:
        EndProcess(who, -1, SIGKILL);
        break;
      case AgentAction::kExit:
        SlotOf(who).agent.reset();
        SlotOf(who).orders.clear();
        Trace("", who, "agent ends");
        break;
    }
  }
}

void World::StartProcess(const std::string& who) {
  Slot& slot = SlotOf(who);
  const uint64_t incarnation = ++incarnations_[who];
  slot.process = Process{};
  slot.process->worker = std::make_unique<Worker>(who, incarnation, options_.program, *this);
  slot.agent->WorkerStarted(now_);
  slot.events.push_back(WorkerStarted{who, incarnation, 1000 + static_cast<int64_t>(incarnation)});
  Trace("", who, fmt::format("process {} starts", incarnation));
}

void World::EndProcess(const std::string& who, int exit_code, int signal) {
  Slot& slot = SlotOf(who);
  if (!slot.process) return;
  const uint64_t incarnation = slot.process->worker->incarnation();
  for (const auto& [number, meeting] : meetings_) {
    const int rank = meeting->RankOf(who);
    if (rank < 0 ||
        meeting->generation().members[static_cast<size_t>(rank)].incarnation != incarnation)
      continue;
    meeting->Die(rank);
  }
  if (slot.process->connected) lost_streams_.push_back({who, incarnation});
  slot.process.reset();
  slot.events.push_back(
      WorkerExited{who, incarnation, exit_code, signal, "last words of " + who, ""});
  Trace("", who,
        signal != 0 ? fmt::format("process {} is killed by signal {}", incarnation, signal)
                    : fmt::format("process {} exits with code {}", incarnation, exit_code));
  if (slot.agent) Do(who, slot.agent->WorkerEnded(exit_code, now_));
}

void World::Kill(const std::string& who, int exit_code, int signal) {
  EndProcess(who, exit_code, signal);
}

void World::KillAgent(const std::string& who) {
  Slot& slot = SlotOf(who);
  Trace("", who, "agent is killed");
  slot.agent.reset();
  slot.orders.clear();
  EndProcess(who, -1, SIGKILL);
  slot.events.clear();  // nobody is left to report the worker
  slot.events.push_back(SlotExited{who, -1, SIGKILL});
}

void World::Freeze(const std::string& who, bool frozen) { SlotOf(who).process->frozen = frozen; }

void World::DropStream(const std::string& who) {
  Process& process = *SlotOf(who).process;
  if (!process.connected) return;
  process.connected = false;
  process.orders.clear();
  lost_streams_.push_back({who, process.worker->incarnation()});
}

// --- What there is ------------------------------------------------------------------------------------------------------

Worker* World::worker(const std::string& who) {
  const auto found = slots_.find(who);
  return found != slots_.end() && found->second.process ? found->second.process->worker.get()
                                                        : nullptr;
}

bool World::frozen(const std::string& who) const {
  const auto found = slots_.find(who);
  return found != slots_.end() && found->second.process && found->second.process->frozen;
}

bool World::WasSpawned(const std::string& who) const { return incarnations_.contains(who); }

bool World::agent_runs(const std::string& who) const {
  const auto found = slots_.find(who);
  return found != slots_.end() && found->second.agent.has_value();
}

std::vector<std::string> World::slots() const {
  std::vector<std::string> all;
  for (const auto& [who, slot] : slots_) {
    if (slot.agent) all.push_back(who);
  }
  return all;
}

// --- Surroundings -------------------------------------------------------------------------------------------------------

std::shared_ptr<Meeting> World::MeetingOf(const Generation& generation) {
  std::shared_ptr<Meeting>& meeting = meetings_[generation.number];
  if (!meeting) meeting = std::make_shared<Meeting>(generation);
  return meeting;
}

void World::Send(const std::string& worker, Report report) {
  SlotOf(worker).process->reports.push_back(std::move(report));
}

void World::SayHello(const std::string& worker) { DropStream(worker); }

void World::Exit(const std::string& worker, int exit_code) {
  SlotOf(worker).process->exiting = exit_code;
}

// --- Trace --------------------------------------------------------------------------------------------------------------

void World::Trace(const std::string& indent, const std::string& who, const std::string& what) {
  if (!tracing_) return;
  if (now_ != traced_at_) {
    FlushLine();
    traced_at_ = now_;
    trace_ += fmt::format("@ {:.2f} s\n", Seconds(now_ - kBeginning));
  }
  if (indent == line_indent_ && what == line_what_ && !line_who_.empty() && who != "coordinator") {
    line_who_ += " " + who;
    return;
  }
  FlushLine();
  line_indent_ = indent;
  line_who_ = who;
  line_what_ = what;
}

void World::FlushLine() {
  if (!line_who_.empty()) trace_ += fmt::format("{}{}: {}\n", line_indent_, line_who_, line_what_);
  line_who_.clear();
}

std::string World::TakeTrace() {
  FlushLine();
  return std::exchange(trace_, {});
}

}  // namespace muster::scenario
