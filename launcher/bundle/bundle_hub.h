// BundleHub: the coordinator's part in how a job's files get to its agents: it takes the bundle's chunks from the user's machine, keeps
// them, serves them, and tells each agent where to fetch (share_core.h).
//
//   launcher run --chunks--> gateway --> BundleHub <--Locate, GetChunk-- agents --GetChunk--> other agents
//
// A coordinator that is started again has an empty store. It learns from the agents' heartbeats who has the bundle; if nobody has, it
// lacks all chunks, and says so.
//
// Threading: safe from any thread. Ownership: outlives the servers that its service is registered with.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "launcher/bundle/share_core.h"
#include "runtime/base/status.h"

namespace grpc {
class Service;
}

namespace muster {

struct BundleHubOptions {
  std::string job;
  std::string secret;
  std::string bundle;            // the hash of its manifest
  std::filesystem::path folder;  // for the chunks
  ShareOptions share;
  // For the job's events: what happens to the bundle, in one sentence. Called without a lock held.
  std::function<void(const std::string& sentence)> note;
};

class BundleHub {
 public:
  // Errors: those of ChunkStore::Open.
  static Result<std::unique_ptr<BundleHub>> Create(BundleHubOptions options);
  ~BundleHub();

  // Bundles of runtime/proto/muster.proto.
  grpc::Service& service();

  // The agent has the whole bundle and serves it there. Repeated with each of its heartbeats.
  void Hold(const std::string& agent, const std::string& address);

  // {"bundle", "whole", "sources", "missing"}: `missing` are the chunks that the user's machine should send, the manifest alone as long
  // as that is not here; none if an agent has them.
  std::string StateText();

  // Keeps a chunk; {"missing": how many are}. Errors: kInvalidArgument (none of this bundle), those of ChunkStore::Put.
  Result<std::string> Put(const std::string& hash, const std::string& compressed);

 private:
  class Impl;
  explicit BundleHub(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster
