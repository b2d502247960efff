#include "launcher/bundle/bundle_service.h"

#include "runtime/base/endpoint.h"
#include "runtime/rpc/server.h"

namespace muster {
namespace {

constexpr size_t kMaxBufferBytes = 64 << 20;  // of all connections together

}  // namespace

Status ChunkService::CheckCaller(const grpc::CallbackServerContext& context) const {
  return muster::CheckCaller(context, job_, secret_);
}

grpc::ServerUnaryReactor* ChunkService::GetChunk(grpc::CallbackServerContext* context,
                                                 const v1::ChunkRequest* request,
                                                 v1::ChunkReply* reply) {
  const Status caller = CheckCaller(*context);
  if (!caller) return Answer(context, caller);
  Result<std::string> chunk = store_.Get(request->hash());
  if (!chunk) return Answer(context, tl::unexpected(chunk.error()));
  reply->set_data(std::move(*chunk));
  return Answer(context, {});
}

Result<std::unique_ptr<ChunkServer>> ChunkServer::Start(const std::string& ip,
                                                        const std::string& job,
                                                        const std::string& secret,
                                                        const ChunkStore& store) {
  std::unique_ptr<ChunkServer> self(new ChunkServer(job, secret, store));
  grpc::ServerBuilder builder;
  PrepareServer(builder, "chunks", kMaxBufferBytes);
  int port = 0;
  builder.AddListeningPort(JoinHostPort(ip, 0), grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&self->service_);
  self->server_ = builder.BuildAndStart();
  if (!self->server_ || port == 0) {
    return Err(Code::kUnavailable, "cannot listen on {} to pass on the job's files", ip);
  }
  self->address_ = JoinHostPort(ip, port);
  return self;
}

ChunkServer::~ChunkServer() {
  if (!server_) return;
  server_->Shutdown(std::chrono::system_clock::now());  // who is served goes elsewhere
  server_->Wait();
}

}  // namespace muster
