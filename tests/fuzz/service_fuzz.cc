// Service: calls of the coordinator's gRPC server with whatever bytes as their message, by callers with and without the job's secret. A
// job of its own stands behind each input: the real coordinator core, without journal and clock.
//
// Beside the general promises: no call without the secret is carried out; every call ends, with a reason if it is refused; at the end
// the service still answers.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <mutex>
#include <nlohmann/json.hpp>

#include "launcher/rendezvous/service.h"
#include "launcher/rendezvous/status_json.h"
#include "runtime/proto/muster.grpc.pb.h"
#include "runtime/rpc/channel.h"
#include "runtime/rpc/convert.h"
#include "tests/fuzz/fuzz.h"

namespace muster::fuzz {
namespace {

constexpr char kJob[] = "0123456789abcdef";
constexpr char kSecret[] = "00112233";
constexpr std::chrono::seconds kPatience{20};

struct Method {
  const char* name;
  bool streams;  // it goes on for ever
};
constexpr Method kMethods[] = {{"Join", true},        {"Report", false},      {"Describe", false},
                               {"Attach", true},      {"ReportAgent", false}, {"WatchSlots", true},
                               {"ReportSlot", false}, {"GetStatus", false},   {"WatchEvents", true},
                               {"Resize", false},     {"Stop", false}};
enum Call : uint8_t {
  kJoin,
  kReport,
  kDescribe,
  kAttach,
  kReportAgent,
  kWatchSlots,
  kReportSlot,
  kGetStatus,
  kWatchEvents,
  kResize,
  kStop
};

// The shell, as far as the service can tell.
class Job final : public JobControl {
 public:
  void SetOutlet(JobOutlet* outlet) {
    std::lock_guard lock(mutex_);
    outlet_ = outlet;
  }
  size_t events() {
    std::lock_guard lock(mutex_);
    return events_;
  }

  void Submit(CoordinatorEvent event, Done done, Relevant relevant) override {
    if (relevant && !relevant()) return Answer(done);
    std::vector<CoordinatorAction> actions;
    JobOutlet* outlet = nullptr;
    {
      std::lock_guard lock(mutex_);
      // When a stream ends is told later, by gRPC's threads.
      if (!std::holds_alternative<WorkerStreamLost>(event)) ++events_;
      actions = core_.Handle(event, TimePoint{});
      outlet = outlet_;
    }
    for (const CoordinatorAction& action : actions) {
      if (outlet == nullptr) break;
      if (const auto* order = std::get_if<SendOrder>(&action)) outlet->Send(*order);
      if (const auto* order = std::get_if<SendAgent>(&action)) outlet->Send(*order);
      if (const auto* slots = std::get_if<SetSlots>(&action)) outlet->Send(*slots);
      if (std::holds_alternative<EmitEvent>(action)) outlet->EventsChanged();
    }
    Answer(done);
  }
  Status CheckResize(int min_workers, int max_workers) override {
    std::lock_guard lock(mutex_);
    const auto objection = core_.ResizeObjection(min_workers, max_workers);
    if (!objection) return {};
    return Err(Code::kInvalidArgument, "{}", *objection);
  }
  std::string StatusText() override {
    std::lock_guard lock(mutex_);
    return StatusJson({"job"}, core_.Status());
  }
  std::vector<std::string> ReadEvents(uint64_t, size_t) override { return {}; }
  uint64_t NextEvent() override { return 1; }

 private:
  static void Answer(const Done& done) {
    if (done) done({});
  }

  std::mutex mutex_;
  Coordinator core_{{.job = kJob, .max_workers = 2}, std::nullopt, TimePoint{}};
  JobOutlet* outlet_ = nullptr;
  size_t events_ = 0;
};

// Calls a method with raw bytes, and gives a stream up as soon as it is accepted.
grpc::Status CallWith(grpc::GenericStub& stub, const Method& method, std::string_view bytes,
                      bool authentic) {
  grpc::ClientContext context;
  Authenticate(context, kJob, authentic ? kSecret : "ffeeddcc");
  SetDeadline(context, MonotonicNow() + kPatience);
  grpc::CompletionQueue queue;
  const auto step = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    MUSTER_CHECK(queue.Next(&tag, &ok));
    return ok;
  };
  const std::string path = std::string("/muster.v1.Rendezvous/") + method.name;
  const auto call = stub.PrepareCall(&context, path, &queue);
  call->StartCall(nullptr);
  step();
  grpc::Slice slice(bytes.data(), bytes.size());
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  step();
  grpc::ByteBuffer answer;
  if (method.streams) {
    call->ReadInitialMetadata(nullptr);
    step();
    context.TryCancel();
  } else {
    call->Read(&answer, nullptr);
    step();
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  step();
  queue.Shutdown();
  return status;
}

void Run(Script& script) {
  Job job;
  const auto service =
      RendezvousService::Create({.job = kJob, .secret = kSecret, .job_text = "{}"}, job);
  MUSTER_CHECK(service.has_value());
  job.SetOutlet(service->get());
  grpc::GenericStub stub(OpenChannel(fmt::format("127.0.0.1:{}", (*service)->port())));
  for (int i = 0; i < 16 && !script.AtEnd(); ++i) {
    const auto which = script.Number<uint8_t>();
    const Method& method = kMethods[(which & 127) % std::size(kMethods)];
    const bool authentic = which < 128;
    const size_t before = job.events();
    const grpc::Status status = CallWith(stub, method, script.Bytes(), authentic);
    MUSTER_CHECK(status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED, "{} hangs",
                 method.name);
    // What is no message of protobuf's, gRPC refuses by itself, without a word.
    const bool no_message = status.error_code() == grpc::StatusCode::UNIMPLEMENTED;
    MUSTER_CHECK(status.ok() || no_message || !status.error_message().empty(),
                 "{} fails without a reason: {}", method.name,
                 static_cast<int>(status.error_code()));
    if (authentic) continue;
    MUSTER_CHECK(!status.ok() && job.events() == before, "{} serves whom it does not know",
                 method.name);
  }
  const grpc::Status status = CallWith(stub, kMethods[kGetStatus], "", true);
  MUSTER_CHECK(status.ok(), "{}", status.error_message());
  (*service)->Shutdown();
}

template <typename Message>
ScriptWriter& Add(ScriptWriter& script, uint8_t call, const Message& message) {
  return script.Number(call).Bytes(message.SerializeAsString());
}

}  // namespace

std::vector<Seed> Seeds() {
  Hello hello;
  hello.worker = "w-0";
  hello.incarnation = 1;
  hello.micro_batches = 16;
  hello.batch_size = 8;
  Report report;
  report.worker = "w-0";
  report.incarnation = 1;
  report.step = 3;
  ScriptWriter worker;
  Add(worker, kJoin, ToProto(hello));
  Add(worker, kReport, ToProto(report));
  Add(worker, kJoin | 128, ToProto(hello));

  v1::AgentHello agent_hello;
  agent_hello.set_agent("w-1");
  v1::AgentReport started;
  started.set_agent("w-1");
  started.set_kind(v1::AgentReport::WORKER_STARTED);
  started.set_incarnation(2);
  started.set_shares_at("127.0.0.1:80");
  v1::SlotReport slot;
  slot.set_slot("w-1");
  slot.set_signal(9);
  slot.set_exit_code(-1);
  ScriptWriter agent;
  Add(agent, kDescribe, v1::DescribeRequest());
  Add(agent, kAttach, agent_hello);
  Add(agent, kReportAgent, started);
  Add(agent, kReportSlot, slot);

  v1::ResizeRequest resize;
  resize.set_min_workers(1);
  resize.set_max_workers(3);
  v1::EventsRequest events;
  events.set_from_sequence(1);
  v1::SlotsRequest slots;
  slots.set_platform("local");
  v1::StopRequest stop;
  stop.set_reason("enough");
  ScriptWriter operators;
  Add(operators, kWatchSlots, slots);
  Add(operators, kResize, resize);
  Add(operators, kWatchEvents, events);
  Add(operators, kGetStatus, v1::StatusRequest());
  Add(operators, kStop, stop);

  // The same by somebody without the secret.
  ScriptWriter strangers;
  constexpr uint8_t kStranger = 128;
  Add(strangers, kJoin | kStranger, ToProto(hello));
  Add(strangers, kAttach | kStranger, agent_hello);
  Add(strangers, kReportAgent | kStranger, started);
  Add(strangers, kReportSlot | kStranger, slot);
  Add(strangers, kWatchSlots | kStranger, slots);
  Add(strangers, kWatchEvents | kStranger, events);
  Add(strangers, kDescribe | kStranger, v1::DescribeRequest());
  Add(strangers, kGetStatus | kStranger, v1::StatusRequest());
  Add(strangers, kResize | kStranger, resize);
  Add(strangers, kStop | kStranger, stop);
  return {{"worker", worker.bytes()},
          {"agent", agent.bytes()},
          {"operators", operators.bytes()},
          {"strangers", strangers.bytes()}};
}

}  // namespace muster::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::fuzz::Script script({reinterpret_cast<const char*>(data), size});
  muster::fuzz::Run(script);
  return 0;
}
