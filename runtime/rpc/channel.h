// Channel: how a client reaches a job's coordinator over gRPC, and how errors cross that line.
//
// Threading: free functions, safe from any thread. This header brings in gRPC; include it from .cc files only.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster {

inline constexpr int kMaxMessageBytes = 4 << 20;  // of one message, in both directions

// The metadata that every call carries.
inline constexpr char kJobMetadata[] = "muster-job";
inline constexpr char kSecretMetadata[] = "muster-secret";
// Sent back at once, as initial metadata, by a stream whose caller has been registered.
inline constexpr char kAcceptedMetadata[] = "muster-accepted";

// A channel to `address` ("127.0.0.1:4711"): no TLS (loopback), no proxy, reconnects after 20 to 500 ms for ever. Does not
// block and cannot fail; an unreachable address shows in the calls, as kUnavailable.
std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address);

// Adds the job id and the job's secret to a call. Use it once for each context.
void Authenticate(grpc::ClientContext& context, const std::string& job, const std::string& secret);

// Ends the call when the monotonic clock reaches `deadline`.
void SetDeadline(grpc::ClientContext& context, TimePoint deadline);

// A failed call as an Error, and an Error as what a server answers. The hint of an Error crosses too.
Error FromGrpc(const grpc::Status& status);
grpc::Status ToGrpc(const Error& error);

}  // namespace muster
