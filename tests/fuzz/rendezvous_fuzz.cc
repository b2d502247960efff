// Rendezvous: messages of workers, agents and operators as they come from the wire, through conversion into the coordinator core, while
// time passes and the coordinator is started again from what it has persisted.
//
// Beside the general promises: what is accepted goes to the wire and back unchanged; a refusal says why. Generation numbers only grow, one
// has one membership of different workers, and nobody hears of one before it is persisted; the job ends once; slots stay within the
// limit; status and events are JSON.
#include <google/protobuf/stubs/logging.h>

#include <nlohmann/json.hpp>
#include <set>

#include "launcher/job/job.h"
#include "launcher/rendezvous/coordinator.h"
#include "launcher/rendezvous/state_json.h"
#include "launcher/rendezvous/status_json.h"
#include "launcher/rendezvous/wire.h"
#include "runtime/rpc/convert.h"
#include "tests/fuzz/fuzz.h"

namespace muster::fuzz {
namespace {

enum class Step : uint8_t {
  kHello,
  kReport,
  kStreamLost,  // of worker w-N
  kAttach,
  kAgentReport,
  kSlotReport,
  kResize,
  kStop,
  kTick,  // milliseconds
  kRestart,
  kRecordAway,
  kRecordBack,
  kOrder,  // what a worker reads
  kCount
};

template <typename Message>
std::optional<Message> Parsed(std::string_view bytes) {
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return std::nullopt;
  return message;
}

// The value of `message` if it is accepted; it then goes to the wire and back unchanged.
template <typename Value, typename Message>
std::optional<Value> Accepted(const Message& message) {
  Result<Value> value = FromProto(message);
  if (!value) {
    CheckError(value.error());
    return std::nullopt;
  }
  const Message out = ToProto(*value);
  const auto back = Parsed<Message>(out.SerializeAsString());
  MUSTER_CHECK(back.has_value(), "{}", out.ShortDebugString());
  const Result<Value> again = FromProto(*back);
  MUSTER_CHECK(again.has_value(), "{}", again.error().message);
  MUSTER_CHECK(ToProto(*again).ShortDebugString() == out.ShortDebugString());
  return std::move(*value);
}

class Play {
 public:
  explicit Play(std::string_view input) : script_(input) {
    google::protobuf::SetLogHandler(nullptr);  // as the service does
    const auto options = script_.Number<uint8_t>();
    options_.job = "job";
    options_.max_workers = 1 + options % 4;
    options_.min_workers = 1 + (options / 4) % options_.max_workers;
    core_ = std::make_unique<Coordinator>(options_, std::nullopt, now_);
    Look(core_->Start(now_));
  }

  void Run() {
    while (!script_.AtEnd()) {
      Take(static_cast<Step>(script_.Number<uint8_t>() % uint8_t(Step::kCount)));
    }
    Tell(Tick{});
    MUSTER_CHECK(nlohmann::json::accept(StatusJson({"job"}, core_->Status())));
    MUSTER_CHECK(nlohmann::json::accept(ProgressJson(core_->Status())));
  }

 private:
  void Take(Step step) {
    switch (step) {
      case Step::kHello:
        if (const auto message = Parsed<v1::Hello>(script_.Bytes())) {
          if (auto hello = Accepted<Hello>(*message)) Tell(WorkerHello{std::move(*hello)});
        }
        return;
      case Step::kReport:
        if (const auto message = Parsed<v1::WorkerReport>(script_.Bytes())) {
          if (auto report = Accepted<Report>(*message)) Tell(WorkerReported{std::move(*report)});
        }
        return;
      case Step::kStreamLost: {
        const std::string worker = fmt::format("w-{}", script_.Number<uint8_t>() % 4);
        return Tell(WorkerStreamLost{worker, script_.Number<uint8_t>()});
      }
      case Step::kAttach:
        if (const auto message = Parsed<v1::AgentHello>(script_.Bytes())) {
          const Status good = CheckId("agent", message->agent());
          if (good) return Tell(AgentAttached{message->agent()});
          CheckError(good.error());
        }
        return;
      case Step::kAgentReport:
        if (const auto message = Parsed<v1::AgentReport>(script_.Bytes())) {
          const Result<CoordinatorEvent> event = ToEvent(*message);
          if (event) return Tell(*event);
          CheckError(event.error());
        }
        return;
      case Step::kSlotReport:
        if (const auto message = Parsed<v1::SlotReport>(script_.Bytes())) {
          Status good = CheckId("slot", message->slot());
          if (good) good = CheckExit(message->exit_code(), message->signal());
          if (good)
            return Tell(SlotExited{message->slot(), message->exit_code(), message->signal()});
          CheckError(good.error());
        }
        return;
      case Step::kResize:
        if (const auto message = Parsed<v1::ResizeRequest>(script_.Bytes())) {
          const auto no = core_->ResizeObjection(message->min_workers(), message->max_workers());
          MUSTER_CHECK(!no || !no->empty());
          Tell(ResizeRequested{message->min_workers(), message->max_workers()});
        }
        return;
      case Step::kStop:
        if (const auto message = Parsed<v1::StopRequest>(script_.Bytes())) {
          if (CheckText("reason", message->reason())) {
            Tell(StopRequested{message->now(), message->reason()});
          }
        }
        return;
      case Step::kTick:
        now_ += std::chrono::milliseconds(script_.Number<uint16_t>());
        return Tell(Tick{});
      case Step::kRestart:
        return Restart();
      case Step::kRecordAway:
        return Tell(RecordAway{});
      case Step::kRecordBack:
        return Tell(RecordBack{});
      case Step::kOrder:
        if (const auto message = Parsed<v1::Order>(script_.Bytes()))
          (void)Accepted<Order>(*message);
        return;
      case Step::kCount:
        return;
    }
  }

  void Tell(const CoordinatorEvent& event) { Look(core_->Handle(event, now_)); }

  // What was persisted went through the journal. A job that has ended is not started again.
  void Restart() {
    if (core_->finished()) return;
    const CoordinatorState state = StateFromJson(nlohmann::json::parse(
        ToJson(persisted_).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
    core_ = std::make_unique<Coordinator>(options_, state, now_);
    Look(core_->Start(now_));
  }

  void Look(const std::vector<CoordinatorAction>& actions) {
    MUSTER_CHECK(actions.size() < 10 * static_cast<size_t>(kMaxWorkers), "{}", actions.size());
    for (const CoordinatorAction& action : actions) {
      std::visit([this](const auto& each) { On(each); }, action);
    }
  }

  void On(const Persist& persist) {
    MUSTER_CHECK(persist.state.last_generation >= persisted_.last_generation);
    MUSTER_CHECK(persist.state.slots.size() <= 2 * static_cast<size_t>(kMaxWorkers));
    persisted_ = persist.state;
    for (const auto& generation : {persisted_.active, persisted_.proposed}) {
      if (generation) Remember(*generation);
    }
  }

  void Remember(const Generation& generation) {
    MUSTER_CHECK(generation.number >= 1 && generation.number <= persisted_.last_generation &&
                 !generation.members.empty());
    const auto [known, is_new] = generations_.emplace(generation.number, generation);
    MUSTER_CHECK(known->second == generation, "generation {} has two memberships",
                 generation.number);
    if (!is_new) return;
    std::set<std::string> names;
    for (const Member& member : generation.members) names.insert(member.worker);
    MUSTER_CHECK(names.size() == generation.members.size(), "a worker is there twice");
  }

  void On(const SendOrder& send) {
    const v1::Order out = ToProto(send.order);
    const auto read = Parsed<v1::Order>(out.SerializeAsString());
    MUSTER_CHECK(read.has_value() && Accepted<Order>(*read).has_value(),
                 "an order that a worker refuses: {}", out.ShortDebugString());
    if (send.order.kind != Order::Kind::kGeneration) return;
    const auto known = generations_.find(send.order.generation.number);
    MUSTER_CHECK(known != generations_.end() && known->second == send.order.generation,
                 "an order of generation {}, which is not persisted", send.order.generation.number);
  }

  void On(const SendAgent& send) { (void)ToProto(send).SerializeAsString(); }
  void On(const SetSlots& set) { (void)ToProto(set).SerializeAsString(); }

  void On(const EmitEvent& event) {
    const std::string line = EventJson(++events_, WallTime{}, event);
    MUSTER_CHECK(nlohmann::json::accept(line) && line.find('\n') == line.npos, "{}", line);
    MUSTER_CHECK(EventSequence(line) == events_);
  }

  void On(const FinishJob& finish) {
    MUSTER_CHECK(!finished_, "the job ends twice");
    finished_ = true;
    MUSTER_CHECK(nlohmann::json::accept(FinishedJson(finish, core_->Status(), 1, 0.5)));
  }

  Script script_;
  CoordinatorOptions options_;
  TimePoint now_{};
  std::unique_ptr<Coordinator> core_;
  CoordinatorState persisted_;
  std::map<uint64_t, Generation> generations_;
  uint64_t events_ = 0;
  bool finished_ = false;
};

Hello HelloOf(int worker, uint64_t generation = 0) {
  Hello hello;
  hello.worker = fmt::format("w-{}", worker);
  hello.incarnation = 1;
  hello.address = "127.0.0.1:4711/boot/name";
  hello.host = "host";
  hello.device = "cpu";
  hello.pid = 100 + worker;
  hello.micro_batches = 16;
  hello.batch_size = 8;
  hello.total_steps = 400;
  hello.generation = generation;
  return hello;
}

Report ReportOf(int worker, Report::Kind kind, uint64_t generation, uint64_t step) {
  Report report;
  report.kind = kind;
  report.worker = fmt::format("w-{}", worker);
  report.incarnation = 1;
  report.generation = generation;
  report.step = step;
  report.has_state = true;
  report.loss = 0.5;
  report.step_seconds = 0.01;
  if (kind == Report::Kind::kRevoked) report.lost = "w-1";
  if (kind == Report::Kind::kNotice) report.notice_kind = "checkpoint";
  if (kind == Report::Kind::kFinished) {
    report.result = RunResult{step, 0.25, std::string(32, 'a'), 128 * step, 1, {{"accuracy", 0.9}}};
  }
  return report;
}

template <typename Message>
void Add(ScriptWriter& script, Step step, const Message& message) {
  script.Number(uint8_t(step)).Bytes(message.SerializeAsString());
}

void AddTick(ScriptWriter& script, int milliseconds) {
  script.Number(uint8_t(Step::kTick)).Number(uint16_t(milliseconds));
}

v1::AgentReport Exit(int worker, int code) {
  v1::AgentReport message;
  message.set_kind(v1::AgentReport::WORKER_EXITED);
  message.set_agent(fmt::format("w-{}", worker));
  message.set_incarnation(1);
  message.set_exit_code(code);
  message.set_last_output("it said \xC3\xA9");
  return message;
}

// Two workers come, and train.
ScriptWriter TwoTrain() {
  ScriptWriter script;
  script.Number(uint8_t{1});  // 1:2 workers
  for (const int worker : {0, 1}) {
    v1::AgentHello agent;
    agent.set_agent(fmt::format("w-{}", worker));
    Add(script, Step::kAttach, agent);
    v1::AgentReport started;
    started.set_kind(v1::AgentReport::WORKER_STARTED);
    started.set_agent(agent.agent());
    started.set_incarnation(1);
    started.set_worker_pid(100 + worker);
    Add(script, Step::kAgentReport, started);
    Add(script, Step::kHello, ToProto(HelloOf(worker)));
  }
  for (const int worker : {0, 1}) {
    Add(script, Step::kReport, ToProto(ReportOf(worker, Report::Kind::kProgress, 1, 0)));
    Add(script, Step::kReport, ToProto(ReportOf(worker, Report::Kind::kResumed, 1, 1)));
  }
  return script;
}

}  // namespace

std::vector<Seed> Seeds() {
  std::vector<Seed> seeds;
  ScriptWriter finished = TwoTrain();
  Add(finished, Step::kReport, ToProto(ReportOf(0, Report::Kind::kNotice, 1, 10)));
  for (const int worker : {0, 1}) {
    Add(finished, Step::kReport, ToProto(ReportOf(worker, Report::Kind::kFinished, 1, 400)));
    Add(finished, Step::kAgentReport, Exit(worker, 0));
  }
  seeds.push_back({"finished", finished.bytes()});

  ScriptWriter lost = TwoTrain();
  Add(lost, Step::kReport, ToProto(ReportOf(0, Report::Kind::kRevoked, 1, 10)));
  lost.Number(uint8_t(Step::kStreamLost)).Number(uint8_t{1}).Number(uint8_t{1});
  Add(lost, Step::kAgentReport, Exit(1, 137));
  AddTick(lost, 500);
  Add(lost, Step::kReport, ToProto(ReportOf(0, Report::Kind::kProgress, 2, 11)));
  seeds.push_back({"lost", lost.bytes()});

  ScriptWriter restarted = TwoTrain();
  restarted.Number(uint8_t(Step::kRestart));
  Add(restarted, Step::kHello, ToProto(HelloOf(0, 1)));
  AddTick(restarted, 5000);
  Add(restarted, Step::kReport, ToProto(ReportOf(0, Report::Kind::kProgress, 1, 20)));
  restarted.Number(uint8_t(Step::kRecordAway));
  AddTick(restarted, 5000);
  restarted.Number(uint8_t(Step::kRecordBack));
  AddTick(restarted, 60'000);
  seeds.push_back({"restarted", restarted.bytes()});

  ScriptWriter resized = TwoTrain();
  v1::ResizeRequest resize;
  resize.set_min_workers(1);
  resize.set_max_workers(4);
  Add(resized, Step::kResize, resize);
  Add(resized, Step::kHello, ToProto(HelloOf(2)));
  AddTick(resized, 100);
  Report joined = ReportOf(2, Report::Kind::kProgress, 0, 0);
  joined.prepared = 2;
  Add(resized, Step::kReport, ToProto(joined));
  Add(resized, Step::kReport, ToProto(ReportOf(0, Report::Kind::kProgress, 2, 5)));
  v1::SlotReport slot;
  slot.set_slot("w-2");
  slot.set_exit_code(-1);
  slot.set_signal(9);
  Add(resized, Step::kSlotReport, slot);
  v1::StopRequest stop;
  stop.set_reason("enough");
  Add(resized, Step::kStop, stop);
  AddTick(resized, 61'000);
  seeds.push_back({"resized", resized.bytes()});

  ScriptWriter endless;
  endless.Number(uint8_t{0});
  resize.set_max_workers(INT32_MAX);
  Add(endless, Step::kResize, resize);
  seeds.push_back({"resized-without-end", endless.bytes()});

  ScriptWriter order;
  order.Number(uint8_t{0});
  Add(order, Step::kOrder,
      ToProto(
          Order{Order::Kind::kGeneration, {3, {{"w-0", 1, "a"}, {"w-1", 2, "b"}}}, true, "why"}));
  seeds.push_back({"order", order.bytes()});
  return seeds;
}

}  // namespace muster::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::fuzz::Play({reinterpret_cast<const char*>(data), size}).Run();
  return 0;
}
