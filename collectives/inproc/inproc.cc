#include "collectives/inproc/inproc.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <set>

#include "collectives/inproc/meeting.h"
#include "collectives/reduce.h"
#include "runtime/base/check.h"
#include "runtime/base/pause.h"

namespace muster {

class InprocFabric {
 public:
  Status Add(const std::string& address) {
    std::lock_guard lock(mutex_);
    if (addresses_.insert(address).second) return {};
    return Err(Code::kAlreadyExists, "address '{}' is taken in this fabric", address);
  }

  void Remove(const std::string& address) {
    std::lock_guard lock(mutex_);
    addresses_.erase(address);
  }

  // The meeting of these peers in this generation: the same for all who ask while anybody still holds it.
  std::shared_ptr<Meeting> Find(uint64_t generation, const std::vector<Peer>& peers) {
    std::lock_guard lock(mutex_);
    std::erase_if(meetings_, [](const auto& entry) { return entry.second.expired(); });
    std::pair<uint64_t, std::vector<std::string>> key{generation, {}};
    for (const Peer& peer : peers) key.second.push_back(peer.address);
    auto meeting = meetings_[key].lock();
    if (!meeting) {
      meeting = std::make_shared<Meeting>(peers);
      meetings_[key] = meeting;
    }
    return meeting;
  }

 private:
  std::mutex mutex_;
  // Guarded by mutex_:
  std::set<std::string> addresses_;
  std::map<std::pair<uint64_t, std::vector<std::string>>, std::weak_ptr<Meeting>> meetings_;
};

namespace {

constexpr auto kOften = std::chrono::microseconds(20);

class InprocCommunicator : public Communicator {
 public:
  InprocCommunicator(std::shared_ptr<Meeting> meeting, const ConnectRequest& request)
      : meeting_(std::move(meeting)),
        rank_(request.rank),
        generation_(request.generation),
        silence_timeout_(request.operation_timeout) {}
  ~InprocCommunicator() override { meeting_->Leave(rank_); }

  int rank() const override { return rank_; }
  int size() const override { return meeting_->size(); }
  uint64_t generation() const override { return generation_; }

  Status AllReduce(std::span<float> values, ReduceOp op) override { return Reduce(values, op); }
  Status AllReduce(std::span<int32_t> values, ReduceOp op) override { return Reduce(values, op); }
  Status AllReduce(std::span<int64_t> values, ReduceOp op) override { return Reduce(values, op); }
  // A slice of the whole result is allowed to come with the rest of it.
  Status ReduceScatter(std::span<float> values, ReduceOp op) override { return Reduce(values, op); }
  Status ReduceScatter(std::span<int32_t> values, ReduceOp op) override {
    return Reduce(values, op);
  }
  Status ReduceScatter(std::span<int64_t> values, ReduceOp op) override {
    return Reduce(values, op);
  }

  Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    if (all.size() != mine.size() * static_cast<size_t>(size())) {
      return Invalid(fmt::format("all-gather of {} bytes into {} bytes by {} ranks", mine.size(),
                                 all.size(), size()));
    }
    std::vector<Meeting::Read> reads;
    for (int peer = 0; peer < size(); ++peer) {
      auto place = all.subspan(mine.size() * static_cast<size_t>(peer), mine.size());
      if (peer == rank_) {
        Copy(mine, place);
      } else {
        reads.push_back({peer, mine.size(), [place](auto data) { Copy(data, place); }});
      }
    }
    return Meet("all-gather", mine.size(), mine, reads);
  }

  Status Broadcast(std::span<std::byte> data, int root) override {
    if (root < 0 || root >= size()) {
      return Invalid(fmt::format("broadcast from rank {} of {}", root, size()));
    }
    if (root == rank_) return Meet("broadcast", data.size(), data, {});
    const Meeting::Read read{root, data.size(), [data](auto bytes) { Copy(bytes, data); }};
    return meeting_->Transfer(rank_, "broadcast", data.size(), {}, {&read, 1}, silence_timeout_);
  }

  using Communicator::Barrier;
  Status Barrier(const std::function<Result<bool>()>& entered) override {
    MUSTER_TRY(AwaitEntry(entered));
    std::vector<Meeting::Read> reads;
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank_) reads.push_back({peer, 0, [](auto) {}});
    }
    return Meet("barrier", 0, {}, reads);
  }

  Status Exchange(std::span<const SendTo> sends, std::span<const ReceiveFrom> receives) override {
    for (const SendTo& send : sends) {
      if (send.rank < 0 || send.rank >= size()) return InvalidRank(send.rank);
    }
    std::vector<Meeting::Read> reads;
    for (const ReceiveFrom& receive : receives) {
      if (receive.rank < 0 || receive.rank >= size()) return InvalidRank(receive.rank);
      reads.push_back(
          {receive.rank, receive.data.size(), [receive](auto data) { Copy(data, receive.data); }});
    }
    return meeting_->Transfer(rank_, "exchange", 0, sends, reads, silence_timeout_);
  }

  void Revoke(const std::string& reason) override { meeting_->Revoke(reason, std::nullopt); }
  bool revoked() const override { return meeting_->revoked(); }
  std::string revoke_reason() const override { return meeting_->revoke_reason(); }
  std::optional<int> lost_peer() const override { return meeting_->lost_peer(); }

 private:
  static void Copy(std::span<const std::byte> from, std::span<std::byte> to) {
    if (!from.empty() && from.data() != to.data()) std::memmove(to.data(), from.data(), to.size());
  }

  Status AwaitEntry(const std::function<Result<bool>()>& entered) {
    while (true) {
      const auto now = entered();
      if (!now) {
        Revoke(now.error().message);
        return tl::unexpected(now.error());
      }
      if (*now) return {};
      MUSTER_TRY(meeting_->CheckAll());
      PauseFor(kOften, {});
    }
  }

  // Shows `mine` to every other rank and performs `reads`.
  Status Meet(const std::string& operation, size_t total, std::span<const std::byte> mine,
              std::span<const Meeting::Read> reads) {
    std::vector<SendTo> sends;
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank_) sends.push_back({peer, mine});
    }
    return meeting_->Transfer(rank_, operation, total, sends, reads, silence_timeout_);
  }

  // Everybody reads everybody's values in rank order into memory of its own, and overwrites its values when all have
  // read them.
  template <typename T>
  Status Reduce(std::span<T> values, ReduceOp op) {
    // A program that trains alone pays nothing.
    if (size() == 1) return Barrier();
    std::vector<T> result(values.size());
    const std::span<T> out(result);
    const auto add = [&](int peer, const T* data) {
      if (peer == 0) {
        std::copy_n(data, out.size(), out.data());
      } else {
        ReduceInOrder<T>(op, std::array{static_cast<const T*>(out.data()), data}, out);
      }
    };
    std::vector<Meeting::Read> reads;
    for (int peer = 0; peer < size(); ++peer) {
      reads.push_back({peer, values.size_bytes(), [&add, peer](auto data) {
                         add(peer, reinterpret_cast<const T*>(data.data()));
                       }});
    }
    std::vector<SendTo> sends;
    for (int peer = 0; peer < size(); ++peer) sends.push_back({peer, std::as_bytes(values)});
    constexpr const char* kLanes = std::is_same_v<T, float> ? "float32"
                                   : sizeof(T) == 4         ? "int32"
                                                            : "int64";
    const std::string operation = fmt::format("{} reduction {}", kLanes, static_cast<int>(op));
    MUSTER_TRY(
        meeting_->Transfer(rank_, operation, values.size_bytes(), sends, reads, silence_timeout_));
    std::ranges::copy(result, values.begin());
    return {};
  }

  Status Invalid(std::string reason) {
    meeting_->Revoke(reason, std::nullopt);
    return Err(Code::kInvalidArgument, "{}", reason);
  }
  Status InvalidRank(int rank) {
    return Invalid(fmt::format("exchange with rank {} of {}", rank, size()));
  }

  const std::shared_ptr<Meeting> meeting_;
  const int rank_;
  const uint64_t generation_;
  const Duration silence_timeout_;
};

class InprocBackend : public Backend {
 public:
  InprocBackend(std::shared_ptr<InprocFabric> fabric, std::string address)
      : fabric_(std::move(fabric)), address_(std::move(address)) {}
  ~InprocBackend() override { fabric_->Remove(address_); }

  std::string name() const override { return "inproc"; }
  std::string address() const override { return address_; }

  Result<std::span<std::byte>> Allocate(size_t bytes) override {
    if (bytes == 0) return std::span<std::byte>();
    auto* data = static_cast<std::byte*>(::operator new(bytes, kAlignment, std::nothrow));
    if (data == nullptr) return Err(Code::kResourceExhausted, "no memory for {} bytes", bytes);
    std::memset(data, 0, bytes);
    std::lock_guard lock(mutex_);
    memory_.emplace_back(data);
    return std::span(data, bytes);
  }

  Result<std::unique_ptr<Communicator>> Connect(const ConnectRequest& request,
                                                std::stop_token stop) override {
    const int size = static_cast<int>(request.peers.size());
    if (request.rank < 0 || request.rank >= size) {
      return Err(Code::kInvalidArgument, "rank {} of {} peers", request.rank, size);
    }
    auto meeting = fabric_->Find(request.generation, request.peers);
    MUSTER_TRY(meeting->Join(request.rank, request.connect_timeout, std::move(stop)));
    return std::make_unique<InprocCommunicator>(std::move(meeting), request);
  }

 private:
  static constexpr std::align_val_t kAlignment{4096};
  struct Free {
    void operator()(std::byte* data) const { ::operator delete(data, kAlignment); }
  };

  const std::shared_ptr<InprocFabric> fabric_;
  const std::string address_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<std::byte, Free>> memory_;  // guarded by mutex_
};

}  // namespace

std::shared_ptr<InprocFabric> CreateInprocFabric() { return std::make_shared<InprocFabric>(); }

std::unique_ptr<Backend> CreateInprocBackend(std::shared_ptr<InprocFabric> fabric,
                                             std::string address) {
  const Status added = fabric->Add(address);
  MUSTER_CHECK(added, "{}", added.error().message);
  return std::make_unique<InprocBackend>(std::move(fabric), std::move(address));
}

}  // namespace muster
