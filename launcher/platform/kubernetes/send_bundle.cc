#include "launcher/platform/kubernetes/send_bundle.h"

#include <algorithm>
#include <mutex>
#include <thread>

#include "runtime/base/backoff.h"
#include "runtime/base/log.h"
#include "runtime/base/pause.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;

constexpr BackoffPolicy kAgain{250ms, 5000ms};
constexpr Duration kAskTime = 15s;
constexpr Duration kChunkTime = 60s;  // the gateway waits no longer for one
constexpr size_t kSenders = 4;

// What is not over by itself.
bool IsFinal(Code code) {
  return code == Code::kInvalidArgument || code == Code::kFailedPrecondition ||
         code == Code::kAborted || code == Code::kPermissionDenied;
}

}  // namespace

void BundleSender::Serve(const std::stop_token& stop) {
  bool whole = false;
  std::string told;
  for (int attempt = 0; !stop.stop_requested();) {
    const auto missing = run_.MissingChunks(k8s::OnceWithin(kAskTime, stop));
    Status status = missing ? Status{} : tl::unexpected(missing.error());
    if (missing && missing->empty()) {
      if (!std::exchange(whole, true)) {
        listener_.on_sent(fmt::format("sent {}, {} of it compressed", what_, BytesText(sent_)));
      }
      attempt = 0;
      told.clear();
      if (!PauseFor(look_every_, stop)) return;
      continue;
    }
    if (missing) {
      whole = false;
      uint64_t bytes = 0;
      for (const std::string& chunk : *missing) bytes += bundle_.SizeOf(chunk);
      // Until the coordinator has the list of files it cannot say what else it lacks.
      const bool list_only = missing->size() == 1 && missing->front() == bundle_.hash();
      const std::string sentence = fmt::format("sends {} ({} to send)", what_, BytesText(bytes));
      if (!list_only && told != sentence) listener_.on_begin(told = sentence);
      status = Send(*missing, stop);
      if (status) attempt = 0;
    }
    if (status) continue;
    if (stop.stop_requested()) return;
    log::info("bundle=not-sent error=\"{}\"", status.error().ToString());
    if (IsFinal(status.error().code)) return listener_.on_failed(status.error());
    if (!PauseFor(kAgain.Delay(attempt++), stop)) return;
  }
}

Status BundleSender::Send(const std::vector<std::string>& chunks, const std::stop_token& stop) {
  std::mutex mutex;
  size_t next = 0;     // guarded by mutex
  Status first_error;  // guarded by mutex
  const auto work = [&] {
    while (true) {
      std::string chunk;
      {
        const std::lock_guard lock(mutex);
        if (next == chunks.size() || !first_error || stop.stop_requested()) return;
        chunk = chunks[next++];
      }
      uint64_t bytes = 0;
      const Status sent = SendOne(chunk, &bytes, stop);
      const std::lock_guard lock(mutex);
      sent_ += bytes;
      if (!sent && first_error) first_error = sent;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < std::min(kSenders, chunks.size()); ++i) threads.emplace_back(work);
  }
  return first_error;
}

Status BundleSender::SendOne(const std::string& chunk, uint64_t* bytes,
                             const std::stop_token& stop) {
  const auto compressed = bundle_.Compressed(chunk);
  // Whatever it is, it is a file that is not what it was.
  if (!compressed) return Err(Code::kAborted, "{}", compressed.error().ToString());
  MUSTER_TRY(run_.PutChunk(chunk, *compressed, k8s::OnceWithin(kChunkTime, stop)));
  *bytes = compressed->size();
  return {};
}

}  // namespace muster::kubernetes
