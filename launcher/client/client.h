// Client: how the launcher's processes reach the coordinator of a job folder, which may die and come back on another port.
//
// Threading: CoordinatorClient and Cancellation are safe from any thread. Follow and Call block the thread that calls them.
// This header brings in gRPC; include it from .cc files only.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "launcher/job/job.h"
#include "runtime/base/backoff.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"
#include "runtime/proto/muster.grpc.pb.h"
#include "runtime/rpc/channel.h"

namespace muster {

inline constexpr std::chrono::milliseconds kCallTimeout{2000};
inline constexpr BackoffPolicy kReconnectBackoff{std::chrono::milliseconds(5),
                                                 std::chrono::milliseconds(500)};

using Stub = v1::Rendezvous::Stub;

class CoordinatorClient {
 public:
  CoordinatorClient(JobFolder folder, std::string job, std::string secret)
      : folder_(std::move(folder)), job_(std::move(job)), secret_(std::move(secret)) {}

  // Reads job id and secret from the job folder. Errors: those of JobFolder's readers.
  static Result<std::unique_ptr<CoordinatorClient>> Open(const JobFolder& folder);

  // The coordinator that coordinator.json names now. Does not block on the network. Errors: kNotFound before the first start.
  Result<std::shared_ptr<Stub>> Connect();

  // Forgets the connection, and with it the time gRPC would wait before it tries again.
  void Disconnect();

  // Adds the job's id and secret to a call.
  void Authenticate(grpc::ClientContext& context) const {
    muster::Authenticate(context, job_, secret_);
  }

 private:
  const JobFolder folder_;
  const std::string job_;
  const std::string secret_;
  std::mutex mutex_;
  std::string address_;         // guarded by mutex_
  std::shared_ptr<Stub> stub_;  // guarded by mutex_
};

// Ends the calls and pauses of one thread from another.
class Cancellation {
 public:
  // Cancels the call that is under way and every later one.
  void Cancel();
  bool cancelled() const;
  // Sleeps; returns early when cancelled.
  void Pause(Duration duration);
  void Enter(grpc::ClientContext* context);
  void Leave();

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool cancelled_ = false;                  // guarded by mutex_
  grpc::ClientContext* context_ = nullptr;  // guarded by mutex_
};

// Keeps a server stream open until `on_message` returns false or `cancellation` is cancelled: opens it with
// `open(stub, context)`, and again after each break.
template <typename Message, typename Open, typename OnMessage>
void Follow(CoordinatorClient& client, Cancellation& cancellation, Open open,
            OnMessage on_message) {
  for (int attempt = 0; !cancellation.cancelled(); ++attempt) {
    if (const auto stub = client.Connect()) {
      grpc::ClientContext context;
      client.Authenticate(context);
      cancellation.Enter(&context);
      const auto stream = open(**stub, &context);
      Message message;
      bool wanted = true;
      while (wanted && stream->Read(&message)) {
        attempt = 0;
        wanted = on_message(message);
      }
      if (!wanted) context.TryCancel();
      stream->Finish();
      cancellation.Leave();
      if (!wanted) return;
      client.Disconnect();
    }
    cancellation.Pause(kReconnectBackoff.Delay(attempt));
  }
}

// Makes a unary call until the coordinator has answered it, for good or bad. `call(stub, context)` returns the gRPC status.
// Errors: the coordinator's refusal; kCancelled; kDeadlineExceeded when `deadline` has passed without an answer.
template <typename UnaryCall>
Status Call(CoordinatorClient& client, Cancellation& cancellation, TimePoint deadline,
            UnaryCall call) {
  Error last{Code::kUnavailable, "the coordinator has not started yet", {}};
  for (int attempt = 0; !cancellation.cancelled(); ++attempt) {
    if (MonotonicNow() >= deadline) {
      return Err(Code::kDeadlineExceeded, "the coordinator does not answer: {}", last.message);
    }
    if (const auto stub = client.Connect()) {
      grpc::ClientContext context;
      client.Authenticate(context);
      SetDeadline(context, std::min(deadline, MonotonicNow() + kCallTimeout));
      cancellation.Enter(&context);
      const grpc::Status status = call(**stub, &context);
      cancellation.Leave();
      if (status.ok()) return {};
      last = FromGrpc(status);
      // UNAUTHENTICATED and UNIMPLEMENTED: coordinator.json is stale and its port is somebody else's now.
      const bool passes = last.code == Code::kUnavailable || last.code == Code::kDeadlineExceeded ||
                          last.code == Code::kCancelled || last.code == Code::kUnauthenticated ||
                          last.code == Code::kUnimplemented || last.code == Code::kUnknown;
      if (!passes) return tl::unexpected<Error>(last);
      client.Disconnect();
    }
    cancellation.Pause(kReconnectBackoff.Delay(attempt));
  }
  return Err(Code::kCancelled, "cancelled");
}

}  // namespace muster
