// What the streams of the gRPC service need besides runtime/rpc/server.h: a refusal in one line.
//
// Threading: pure functions. This header brings in gRPC; include it from .cc files only.
#pragma once

#include <grpcpp/grpcpp.h>

#include "launcher/rendezvous/pump_stream.h"
#include "runtime/rpc/server.h"

namespace muster {

template <typename Message>
grpc::ServerWriteReactor<Message>* Refuse(const Error& error) {
  return new RefusedStream<Message>(ToGrpc(error));
}

}  // namespace muster
