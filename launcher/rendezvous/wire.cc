#include "launcher/rendezvous/wire.h"

#include "runtime/rpc/convert.h"

namespace muster {

namespace {

constexpr int kMaxSignal = 128;

}  // namespace

Status CheckExit(int exit_code, int signal) {
  if (exit_code >= -1 && exit_code <= 255 && signal >= 0 && signal <= kMaxSignal) return {};
  return Err(Code::kInvalidArgument,
             "exit_code is {} and signal is {}, they must be -1 to 255 and 0 to {}", exit_code,
             signal, kMaxSignal);
}

Result<CoordinatorEvent> ToEvent(const v1::AgentReport& message) {
  MUSTER_TRY(CheckId("agent", message.agent()));
  MUSTER_TRY(CheckText("last_output", message.last_output()));
  MUSTER_TRY(CheckText("error", message.error()));
  MUSTER_TRY(CheckText("shares_at", message.shares_at()));
  switch (message.kind()) {
    case v1::AgentReport::ALIVE:
      return AgentAlive{message.agent()};
    case v1::AgentReport::WORKER_STARTED:
      return WorkerStarted{message.agent(), message.incarnation(), message.worker_pid()};
    case v1::AgentReport::WORKER_EXITED:
      MUSTER_TRY(CheckExit(message.exit_code(), message.signal()));
      return WorkerExited{message.agent(),  message.incarnation(), message.exit_code(),
                          message.signal(), message.last_output(), message.error()};
    default:
      return Err(Code::kInvalidArgument, "kind of an agent's report is {}, which is no known kind",
                 static_cast<int>(message.kind()));
  }
}

v1::AgentOrder ToProto(const SendAgent& order) {
  v1::AgentOrder message;
  switch (order.kind) {
    case SendAgent::Kind::kRestartWorker:
      message.set_kind(v1::AgentOrder::RESTART_WORKER);
      break;
    case SendAgent::Kind::kShutDown:
      message.set_kind(v1::AgentOrder::SHUT_DOWN);
      break;
    case SendAgent::Kind::kShutDownNow:
      message.set_kind(v1::AgentOrder::SHUT_DOWN_NOW);
      break;
  }
  message.set_reason(CleanText(order.reason));
  return message;
}

v1::SlotsOrder ToProto(const SetSlots& slots) {
  v1::SlotsOrder message;
  for (const std::string& slot : slots.slots) message.add_slots(slot);
  return message;
}

}  // namespace muster
