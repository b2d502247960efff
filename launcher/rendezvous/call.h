// What every handler of the gRPC service needs: the caller's metadata, and answers in one line.
//
// Threading: pure functions. This header brings in gRPC; include it from .cc files only.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string_view>

#include "launcher/rendezvous/pump_stream.h"
#include "runtime/rpc/channel.h"

namespace muster {

inline std::string_view Metadata(const grpc::CallbackServerContext& context, const char* key) {
  const auto& all = context.client_metadata();
  const auto found = all.find(key);
  return found == all.end() ? std::string_view()
                            : std::string_view(found->second.data(), found->second.size());
}

inline grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                        const Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(status ? grpc::Status::OK : ToGrpc(status.error()));
  return reactor;
}

template <typename Message>
grpc::ServerWriteReactor<Message>* Refuse(const Error& error) {
  return new RefusedStream<Message>(ToGrpc(error));
}

}  // namespace muster
