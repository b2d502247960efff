#include "runtime/rpc/channel.h"

#include "runtime/rpc/convert.h"

namespace muster {
namespace {

constexpr int kReconnectFirstMs = 20;
constexpr int kReconnectMaxMs = 500;
// gRPC calls it a backoff, but it is how long one attempt to connect may take. Loopback answers at once or refuses; a machine
// that is overloaded may take seconds, and giving up early would mean to begin again.
constexpr int kConnectTimeoutMs = 10'000;
// Loopback connections end with the peer's process; the pings are for a coordinator that is stopped but alive. They are slow, so
// that an overloaded one is not taken for a stopped one.
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 30'000;
constexpr size_t kMaxErrorText = 4096;  // travels in a header, where gRPC allows 8 KiB in all

}  // namespace

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectFirstMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMaxMs);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // Channels do not share connections: one that is closed takes its backoff with it.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  // With the scheme, a numeric address needs no resolver.
  const bool numeric = address.find_first_not_of("0123456789.:") == address.npos;
  return grpc::CreateCustomChannel(numeric ? "ipv4:" + address : address,
                                   grpc::InsecureChannelCredentials(), arguments);
}

void Authenticate(grpc::ClientContext& context, const std::string& job, const std::string& secret) {
  context.AddMetadata(kJobMetadata, job);
  context.AddMetadata(kSecretMetadata, secret);
}

void SetDeadline(grpc::ClientContext& context, TimePoint deadline) {
  context.set_deadline(
      std::chrono::system_clock::now() +
      std::chrono::duration_cast<std::chrono::system_clock::duration>(deadline - MonotonicNow()));
}

Error FromGrpc(const grpc::Status& status) {
  const int code = static_cast<int>(status.error_code());
  const bool known = code >= static_cast<int>(Code::kCancelled) &&
                     code <= static_cast<int>(Code::kUnauthenticated);
  return Error{known ? static_cast<Code>(code) : Code::kUnknown, status.error_message(),
               status.error_details()};
}

grpc::Status ToGrpc(const Error& error) {
  return grpc::Status(static_cast<grpc::StatusCode>(error.code),
                      CleanText(error.message, kMaxErrorText),
                      CleanText(error.hint, kMaxErrorText / 4));
}

}  // namespace muster
