// ChunkService: serves the chunks of a store over gRPC (service Bundles of runtime/proto/muster.proto) to those who know the job's
// secret. The coordinator registers one that also says where to fetch (bundle_hub.h); an agent runs one in a server of its own.
//
// Threading: calls are answered on gRPC's threads. Ownership: the store must outlive it.
// This header brings in gRPC; include it from .cc files only.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "launcher/bundle/chunk_store.h"
#include "runtime/base/status.h"
#include "runtime/proto/muster.grpc.pb.h"

namespace muster {

class ChunkService : public v1::Bundles::CallbackService {
 public:
  ChunkService(std::string job, std::string secret, const ChunkStore& store)
      : job_(std::move(job)), secret_(std::move(secret)), store_(store) {}

  grpc::ServerUnaryReactor* GetChunk(grpc::CallbackServerContext* context,
                                     const v1::ChunkRequest* request,
                                     v1::ChunkReply* reply) override;

 protected:
  Status CheckCaller(const grpc::CallbackServerContext& context) const;

 private:
  const std::string job_;
  const std::string secret_;
  const ChunkStore& store_;
};

// A gRPC server that serves nothing else.
class ChunkServer {
 public:
  // Listens on any free port of `ip` when it returns. Errors: kUnavailable.
  static Result<std::unique_ptr<ChunkServer>> Start(const std::string& ip, const std::string& job,
                                                    const std::string& secret,
                                                    const ChunkStore& store);
  ~ChunkServer();  // cuts the calls under way

  const std::string& address() const { return address_; }  // "IP:PORT"

 private:
  ChunkServer(const std::string& job, const std::string& secret, const ChunkStore& store)
      : service_(job, secret, store) {}

  ChunkService service_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace muster
