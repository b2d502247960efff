#include "tests/scenarios/text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace muster::scenario {

namespace {

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

std::string ExitText(int exit_code, int signal) {
  return signal != 0 ? fmt::format("killed by signal {}", signal)
                     : fmt::format("exit code {}", exit_code);
}

std::string StateText(uint64_t step, bool has_state) {
  return has_state ? fmt::format("step {}", step) : std::string("no state");
}

}  // namespace

std::string Text(const Generation& generation) {
  std::vector<std::string> members;
  for (const Member& member : generation.members) {
    members.push_back(member.incarnation == 1
                          ? member.worker
                          : fmt::format("{}/{}", member.worker, member.incarnation));
  }
  return fmt::format("{} [{}]", generation.number, fmt::join(members, " "));
}

std::string Text(const Order& order) {
  switch (order.kind) {
    case Order::Kind::kGeneration:
      return fmt::format("{} generation {}: {}", order.urgent ? "urgent" : "planned",
                         Text(order.generation), order.reason);
    case Order::Kind::kStop:
      return "stop: " + order.reason;
    case Order::Kind::kRejoin:
      return "rejoin: " + order.reason;
    case Order::Kind::kRelease:
      return "release: " + order.reason;
  }
  return "?";
}

std::string Text(const Report& report) {
  switch (report.kind) {
    case Report::Kind::kProgress:
      return fmt::format("progress: generation {}, prepared {}, {}, {}", report.generation,
                         report.prepared, StateText(report.step, report.has_state),
                         report.waiting ? "waiting" : "computing");
    case Report::Kind::kRevoked:
      return fmt::format("generation {} is dead, lost {}{}: {}", report.generation,
                         report.lost.empty() ? "nobody" : report.lost,
                         report.unreachable.empty()
                             ? ""
                             : fmt::format(", silent {}", fmt::join(report.unreachable, " ")),
                         report.message);
    case Report::Kind::kBuildFailed:
      return fmt::format("generation {} could not be built: {}", report.generation, report.message);
    case Report::Kind::kResumed:
      return fmt::format("resumed in generation {} at step {}, {} redone", report.generation,
                         report.step, report.steps_redone);
    case Report::Kind::kFailed:
      return "failed: " + report.message;
    case Report::Kind::kFinished:
      return fmt::format("{} at step {}", report.result->stopped ? "stopped" : "finished",
                         report.result->step);
    case Report::Kind::kNotice:
      return fmt::format("{}: {}", report.notice_kind, report.message);
  }
  return "?";
}

std::string Text(const Hello& hello) {
  const std::string entering =
      hello.entering != 0 ? fmt::format("entering {}, ", hello.entering) : "";
  return fmt::format("hello: process {}, generation {}, {}revoked {}, {}", hello.incarnation,
                     hello.generation, entering, hello.revoked,
                     StateText(hello.step, hello.has_state));
}

std::string Text(const MemberAction& action) {
  return std::visit(
      Overloaded{
          [](const BuildGeneration& a) { return "builds generation " + Text(a.generation); },
          [](const DiscardBuild& a) { return fmt::format("discards generation {}", a.number); },
          [](const RevokeActive& a) { return "revokes what it is in: " + a.reason; },
          [](const EnterGeneration& a) { return fmt::format("may enter generation {}", a.number); },
          [](const SayHello&) { return std::string("will say hello again"); },
          [](const Leave& a) { return "ends: " + a.reason; },
          [](const SendReport& a) { return "reports: " + Text(a.report); },
      },
      action);
}

std::string Text(const CoordinatorEvent& event) {
  return std::visit(
      Overloaded{
          [](const WorkerHello& e) { return fmt::format("{} {}", e.hello.worker, Text(e.hello)); },
          [](const WorkerStreamLost& e) {
            return fmt::format("{} stream of process {} is lost", e.worker, e.incarnation);
          },
          [](const WorkerReported& e) {
            return fmt::format("{} {}", e.report.worker, Text(e.report));
          },
          [](const AgentAttached& e) { return fmt::format("{} agent attached", e.slot); },
          [](const AgentAlive& e) { return fmt::format("{} agent alive", e.slot); },
          [](const WorkerStarted& e) {
            return fmt::format("{} process {} started", e.slot, e.incarnation);
          },
          [](const WorkerExited& e) {
            return fmt::format("{} process {} ended: {}", e.slot, e.incarnation,
                               ExitText(e.exit_code, e.signal));
          },
          [](const SlotExited& e) {
            return fmt::format("{} agent ended: {}", e.slot, ExitText(e.exit_code, e.signal));
          },
          [](const SlotsOffered& e) {
            std::string text = fmt::format("offered: {}", fmt::join(e.slots, " "));
            for (const auto& [slot, why] : e.leaving)
              text += fmt::format(", {} goes: {}", slot, why);
            return text;
          },
          [](const PlatformNoted& e) { return fmt::format("noted: {} {}", e.kind, e.message); },
          [](const PlatformFailed& e) {
            return fmt::format("the platform has failed with {}: {}", e.exit_code, e.message);
          },
          [](const ResizeRequested& e) {
            return fmt::format("resize to {}:{}", e.min_workers, e.max_workers);
          },
          [](const StopRequested& e) {
            return fmt::format("stop{}: {}", e.now ? " now" : "", e.reason);
          },
          [](const RecordAway&) { return std::string("the record is away"); },
          [](const RecordBack&) { return std::string("the record is back"); },
          [](const Tick&) { return std::string("tick"); },
      },
      event);
}

std::string Text(const JobStatus& status) {
  std::string text =
      fmt::format("{}: generation {}, step {}/{}, world {}, workers {}:{}\n",
                  PhaseName(status.phase), status.generation, status.step, status.total_steps,
                  status.world_size, status.min_workers, status.max_workers);
  text += fmt::format("  {}\n", status.message);
  for (const WorkerStatus& worker : status.workers) {
    text += worker.rank < 0
                ? fmt::format("  {}: {}\n", worker.id, worker.state)
                : fmt::format("  {}: {}, rank {}\n", worker.id, worker.state, worker.rank);
  }
  return text;
}

std::string Difference(const CoordinatorState& before, const CoordinatorState& now) {
  std::vector<std::string> parts;
  const auto generation = [](const std::optional<Generation>& g) {
    return g ? Text(*g) : std::string("none");
  };
  if (now.active != before.active) parts.push_back("active " + generation(now.active));
  if (now.proposed != before.proposed) parts.push_back("proposed " + generation(now.proposed));
  if (now.last_generation != before.last_generation)
    parts.push_back(fmt::format("last {}", now.last_generation));
  if (now.min_workers != before.min_workers || now.max_workers != before.max_workers) {
    parts.push_back(fmt::format("workers {}:{}", now.min_workers, now.max_workers));
  }
  if (now.slots != before.slots)
    parts.push_back(fmt::format("slots {}", fmt::join(now.slots, " ")));
  if (now.stop_requested != before.stop_requested) parts.push_back("stop: " + now.stop_reason);
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace muster::scenario
