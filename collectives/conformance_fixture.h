// What the conformance tests run on: a world of backends of one kind, its ranks as threads of the test.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "collectives/await_blocked.h"
#include "collectives/communicator.h"
#include "collectives/host/host.h"
#include "collectives/inproc/inproc.h"

namespace muster {

enum class Kind { kInproc, kHostShared, kHostTcp };

inline std::string KindName(const testing::TestParamInfo<Kind>& info) {
  switch (info.param) {
    case Kind::kInproc:
      return "Inproc";
    case Kind::kHostShared:
      return "HostSharedMemory";
    case Kind::kHostTcp:
      return "HostTcp";
  }
  return "";
}

inline HostOptions TestHostOptions(Kind kind) {
  HostOptions options;
  options.job = "job-under-test";
  options.secret = "0123456789abcdef-not-a-secret";
  options.shared_memory = kind == Kind::kHostShared;
  return options;
}

class World {
 public:
  World(Kind kind, int size, const std::function<void(HostOptions&, int)>& adjust = {}) {
    const auto fabric = CreateInprocFabric();
    for (int rank = 0; rank < size; ++rank) {
      backends_.push_back(Create(kind, fabric, rank, adjust));
      peers_.push_back({"w-" + std::to_string(rank), backends_.back()->address()});
    }
  }

  int size() const { return static_cast<int>(backends_.size()); }
  Backend& backend(int rank) { return *backends_[static_cast<size_t>(rank)]; }

  ConnectRequest Request(int rank, uint64_t generation = 1) const {
    ConnectRequest request;
    request.generation = generation;
    request.rank = rank;
    request.peers = peers_;
    request.connect_timeout = std::chrono::seconds(60);
    return request;
  }

  // Runs `body` once per rank, in threads, with a communicator of `generation`.
  void Run(const std::function<void(std::unique_ptr<Communicator>)>& body, uint64_t generation = 1,
           Duration operation_timeout = std::chrono::seconds(60)) {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size(); ++rank) {
      threads.emplace_back([&, rank] {
        ConnectRequest request = Request(rank, generation);
        request.operation_timeout = operation_timeout;
        auto communicator = backend(rank).Connect(request, {});
        ASSERT_TRUE(communicator) << communicator.error().message;
        body(std::move(*communicator));
      });
    }
  }

 private:
  static std::unique_ptr<Backend> Create(Kind kind, const std::shared_ptr<InprocFabric>& fabric,
                                         int rank,
                                         const std::function<void(HostOptions&, int)>& adjust) {
    if (kind == Kind::kInproc) return CreateInprocBackend(fabric, "rank-" + std::to_string(rank));
    HostOptions options = TestHostOptions(kind);
    if (adjust) adjust(options, rank);
    auto backend = CreateHostBackend(options);
    EXPECT_TRUE(backend) << backend.error().message;
    return std::move(*backend);
  }

  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<Peer> peers_;
};

}  // namespace muster
