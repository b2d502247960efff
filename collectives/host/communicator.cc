#include "collectives/host/communicator.h"

#include <algorithm>
#include <cstring>

#include "collectives/reduce.h"

namespace muster::host {
namespace {

// Up to this size everybody sends everything to everybody: one way through the network instead of two.
constexpr size_t kSmallBytes = 4096;

template <typename T>
constexpr uint8_t kElement = std::is_same_v<T, float> ? Operation::kFloat32
                             : sizeof(T) == 4         ? Operation::kInt32
                                                      : Operation::kInt64;

// Cuts `data` into chunks; an empty one has one empty chunk.
template <typename Byte>
std::vector<std::span<Byte>> Chunks(std::span<Byte> data, size_t chunk_bytes) {
  std::vector<std::span<Byte>> chunks;
  do {
    chunks.push_back(data.first(std::min(chunk_bytes, data.size())));
    data = data.subspan(chunks.back().size());
  } while (!data.empty());
  return chunks;
}

template <typename T>
std::span<T> Slice(std::span<T> values, int size, int rank) {
  const size_t begin = SliceBegin(values.size(), size, rank);
  return values.subspan(begin, SliceBegin(values.size(), size, rank + 1) - begin);
}

template <typename T>
const T* As(const std::byte* data) {
  return reinterpret_cast<const T*>(data);
}

}  // namespace

HostCommunicator::HostCommunicator(const ConnectRequest& request, size_t chunk_bytes,
                                   std::unique_ptr<Mesh> mesh)
    : rank_(request.rank),
      generation_(request.generation),
      chunk_bytes_(chunk_bytes),
      mesh_(std::move(mesh)) {}

Status HostCommunicator::AllReduce(std::span<float> values, ReduceOp op) {
  return Reduce(values, op, true);
}
Status HostCommunicator::AllReduce(std::span<int32_t> values, ReduceOp op) {
  return Reduce(values, op, true);
}
Status HostCommunicator::AllReduce(std::span<int64_t> values, ReduceOp op) {
  return Reduce(values, op, true);
}
Status HostCommunicator::ReduceScatter(std::span<float> values, ReduceOp op) {
  return Reduce(values, op, false);
}
Status HostCommunicator::ReduceScatter(std::span<int32_t> values, ReduceOp op) {
  return Reduce(values, op, false);
}
Status HostCommunicator::ReduceScatter(std::span<int64_t> values, ReduceOp op) {
  return Reduce(values, op, false);
}

// The inputs of chunk c come as views, memory of the peer or scratch; when all are there they are combined into the own
// memory, which opens the gates of the result's sends and of the views that wait for scratch.
template <typename T>
Status HostCommunicator::Reduce(std::span<T> values, ReduceOp op, bool gather) {
  const auto kind = gather ? Operation::Kind::kAllReduce : Operation::Kind::kReduceScatter;
  const Operation operation{kind, kElement<T>, op, values.size_bytes()};
  if (gather && values.size_bytes() <= kSmallBytes) return ReduceSmall(operation, values);

  const auto own = Chunks(std::as_writable_bytes(Slice(values, size(), rank_)), chunk_bytes_);
  std::vector<std::vector<const std::byte*>> views(
      static_cast<size_t>(size()), std::vector<const std::byte*>(own.size(), nullptr));
  size_t reduced = 0;  // chunks

  const auto post = [&] {
    ForEachPeer([&](int peer) {
      PostSend(peer, operation, std::as_bytes(Slice(values, size(), peer)));
      for (size_t c = 0; c < own.size(); ++c) {
        const bool is_short = own[c].size() <= Link::kInlineBytes && c + 1 == own.size();
        const size_t slot = is_short ? Link::kShortView : c % Link::kViews;
        const size_t free_after = is_short ? 0 : c + 1 - std::min(c + 1, Link::kViews);
        mesh_->link(peer).ReceiveView(operation, own[c].size(), slot, Gate{&reduced, free_after},
                                      &views[static_cast<size_t>(peer)][c]);
      }
      if (!gather) return;
      for (size_t c = 0; c < own.size(); ++c) {
        mesh_->link(peer).Send(operation, own[c], Gate{&reduced, c + 1});
      }
      PostReceive(peer, operation, std::as_writable_bytes(Slice(values, size(), peer)));
    });
  };
  const auto step = [&]() -> tl::expected<bool, Trouble> {
    if (reduced == own.size()) return false;
    const auto out = own[reduced];
    std::vector<const T*> inputs;
    for (int rank = 0; rank < size(); ++rank) {
      const std::byte* view = views[static_cast<size_t>(rank)][reduced];
      if (view == nullptr && rank != rank_) return false;
      inputs.push_back(As<T>(rank == rank_ ? out.data() : view));
    }
    ReduceInOrder<T>(op, inputs, {reinterpret_cast<T*>(out.data()), out.size() / sizeof(T)});
    for (int rank = 0; rank < size(); ++rank) {
      if (rank == rank_) continue;
      if (auto trouble = mesh_->link(rank).Consumed()) return tl::unexpected<Trouble>(*trouble);
    }
    ++reduced;  // opens the gates of the result
    return true;
  };
  return mesh_->Operate(Describe(operation.code(), operation.total), post, step);
}

template <typename T>
Status HostCommunicator::ReduceSmall(const Operation& operation, std::span<T> values) {
  std::vector<T> others(values.size() * static_cast<size_t>(size()));
  std::vector<const T*> inputs(static_cast<size_t>(size()), values.data());
  const auto post = [&] {
    ForEachPeer([&](int peer) {
      const auto index = static_cast<size_t>(peer);
      const auto place = std::span(others).subspan(values.size() * index, values.size());
      inputs[index] = place.data();
      PostSend(peer, operation, std::as_bytes(values));
      PostReceive(peer, operation, std::as_writable_bytes(place));
    });
  };
  MUSTER_TRY(Operate(operation, post));
  ReduceInOrder<T>(operation.op, inputs, values);
  return {};
}

Status HostCommunicator::AllGather(std::span<const std::byte> mine, std::span<std::byte> all) {
  if (all.size() != mine.size() * static_cast<size_t>(size())) {
    return mesh_->Refuse(fmt::format("all-gather of {} bytes into {} bytes by {} ranks",
                                     mine.size(), all.size(), size()));
  }
  const auto place = [&](int peer) {
    return all.subspan(mine.size() * static_cast<size_t>(peer), mine.size());
  };
  if (!mine.empty() && place(rank_).data() != mine.data()) {
    std::memmove(place(rank_).data(), mine.data(), mine.size());
  }
  const Operation operation{.kind = Operation::Kind::kAllGather, .total = mine.size()};
  return Operate(operation, [&] {
    ForEachPeer([&](int peer) {
      PostSend(peer, operation, mine);
      PostReceive(peer, operation, place(peer));
    });
  });
}

Status HostCommunicator::Broadcast(std::span<std::byte> data, int root) {
  if (root < 0 || root >= size()) {
    return mesh_->Refuse(fmt::format("broadcast from rank {} of {}", root, size()));
  }
  const Operation operation{.kind = Operation::Kind::kBroadcast, .total = data.size()};
  return Operate(operation, [&] {
    if (rank_ != root) return PostReceive(root, operation, data);
    ForEachPeer([&](int peer) { PostSend(peer, operation, data); });
  });
}

Status HostCommunicator::Barrier(const std::function<Result<bool>()>& entered) {
  const Operation operation{.kind = Operation::Kind::kBarrier};
  size_t entries = 0;  // opens the gates of what is sent
  const auto post = [&] {
    ForEachPeer([&](int peer) {
      mesh_->link(peer).Send(operation, {}, Gate{&entries, 1});
      PostReceive(peer, operation, {});
    });
  };
  const auto step = [&]() -> tl::expected<bool, Trouble> {
    if (entries > 0) return false;
    const auto now = entered();
    if (!now) {
      return tl::unexpected(Trouble{now.error().code, now.error().message, std::nullopt});
    }
    entries = *now ? 1 : 0;
    return *now;
  };
  const auto more = [&] { return entries == 0; };
  return mesh_->Operate(Describe(operation.code(), operation.total), post, step, more);
}

Status HostCommunicator::Exchange(std::span<const SendTo> sends,
                                  std::span<const ReceiveFrom> receives) {
  const auto valid = [this](const auto& side) { return side.rank >= 0 && side.rank < size(); };
  if (!std::ranges::all_of(sends, valid) || !std::ranges::all_of(receives, valid)) {
    return mesh_->Refuse(fmt::format("exchange with a rank outside of 0 to {}", size() - 1));
  }
  MUSTER_TRY(ExchangeWithSelf(sends, receives));
  Operation operation{.kind = Operation::Kind::kExchange};
  return Operate(operation, [&] {
    for (const SendTo& send : sends) {
      operation.total = send.data.size();
      if (send.rank != rank_) PostSend(send.rank, operation, send.data);
    }
    for (const ReceiveFrom& receive : receives) {
      operation.total = receive.data.size();
      if (receive.rank != rank_) PostReceive(receive.rank, operation, receive.data);
    }
  });
}

Status HostCommunicator::ExchangeWithSelf(std::span<const SendTo> sends,
                                          std::span<const ReceiveFrom> receives) {
  auto receive = receives.begin();
  for (const SendTo& send : sends) {
    if (send.rank != rank_) continue;
    receive = std::find_if(receive, receives.end(),
                           [this](const ReceiveFrom& r) { return r.rank == rank_; });
    if (receive == receives.end() || receive->data.size() != send.data.size()) {
      return mesh_->Refuse("exchange of this rank with itself: the two sides differ");
    }
    if (!send.data.empty()) {
      std::memmove(receive->data.data(), send.data.data(), send.data.size());
    }
    ++receive;
  }
  if (std::any_of(receive, receives.end(), [this](const auto& r) { return r.rank == rank_; })) {
    return mesh_->Refuse("exchange of this rank with itself: the two sides differ");
  }
  return {};
}

Status HostCommunicator::Operate(const Operation& operation, const std::function<void()>& post) {
  return mesh_->Operate(Describe(operation.code(), operation.total), post);
}

void HostCommunicator::PostSend(int peer, const Operation& operation,
                                std::span<const std::byte> data) {
  for (const auto chunk : Chunks(data, chunk_bytes_)) mesh_->link(peer).Send(operation, chunk);
}

void HostCommunicator::PostReceive(int peer, const Operation& operation,
                                   std::span<std::byte> data) {
  for (const auto chunk : Chunks(data, chunk_bytes_)) mesh_->link(peer).Receive(operation, chunk);
}

}  // namespace muster::host
