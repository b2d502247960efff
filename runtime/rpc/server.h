// Server: what every gRPC server of a job needs: who calls, an answer in one line, and limits.
//
// Threading: free functions, safe from any thread. This header brings in gRPC; include it from .cc files only.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>
#include <string_view>

#include "runtime/base/status.h"
#include "runtime/rpc/channel.h"

namespace muster {

inline std::string_view Metadata(const grpc::CallbackServerContext& context, const char* key) {
  const auto& all = context.client_metadata();
  const auto found = all.find(key);
  return found == all.end() ? std::string_view()
                            : std::string_view(found->second.data(), found->second.size());
}

// Refuses calls that do not carry the job's id and secret (Authenticate). Errors: kUnauthenticated.
Status CheckCaller(const grpc::CallbackServerContext& context, const std::string& job,
                   const std::string& secret);

inline grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                        const Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(status ? grpc::Status::OK : ToGrpc(status.error()));
  return reactor;
}

// Limits of messages, of memory for all connections together, and room for the pings of OpenChannel's channels.
void PrepareServer(grpc::ServerBuilder& builder, const char* name, size_t max_buffer_bytes);

}  // namespace muster
