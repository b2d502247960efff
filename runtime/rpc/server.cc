#include "runtime/rpc/server.h"

#include "runtime/base/secret.h"

namespace muster {
namespace {

constexpr int kMaxCallsPerConnection = 10'000;
constexpr int kShortestPingInterval = 5'000;  // ms; clients ping every 30 s (channel.cc)

}  // namespace

Status CheckCaller(const grpc::CallbackServerContext& context, const std::string& job,
                   const std::string& secret) {
  const bool same_secret = SameSecret(Metadata(context, kSecretMetadata), secret);
  const bool same_job = Metadata(context, kJobMetadata) == job;
  if (same_secret && same_job) return {};
  return Err(Code::kUnauthenticated,
             "the {} of the call is missing or not that of this coordinator",
             same_job ? "secret" : "job id");
}

void PrepareServer(grpc::ServerBuilder& builder, const char* name, size_t max_buffer_bytes) {
  grpc::ResourceQuota quota(name);
  quota.Resize(max_buffer_bytes);
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxCallsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Also while they have no call.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kShortestPingInterval);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
}

}  // namespace muster
