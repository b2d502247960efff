#include "launcher/bundle/fetch.h"

#include <algorithm>

#include "runtime/base/log.h"
#include "runtime/rpc/convert.h"

namespace muster {
namespace {

constexpr size_t kMaxProblem = 512;
constexpr std::chrono::milliseconds kMinWait{50};
constexpr std::chrono::milliseconds kMaxWait{5000};

using BundleStub = v1::Bundles::Stub;

class Fetcher {
 public:
  Fetcher(const FetchOptions& options, ChunkStore& store, Cancellation& cancellation)
      : options_(options),
        store_(store),
        cancellation_(cancellation),
        coordinator_(v1::Bundles::NewStub(OpenChannel(options.coordinator))) {}

  Result<Fetched> Run() {
    TimePoint deadline = MonotonicNow() + options_.patience;
    for (int attempt = 0; !cancellation_.cancelled();) {
      const size_t before = got_;
      MUSTER_TRY(Round(&attempt));
      if (manifest_ && missing_.empty()) return Fetched{std::move(*manifest_), chunks_from_};
      if (got_ > before) {
        deadline = MonotonicNow() + options_.patience;
        attempt = 0;
      }
      if (MonotonicNow() < deadline) continue;
      return Err(Code::kDeadlineExceeded, "the program has not come for {:.0f} s: {}",
                 Seconds(options_.patience), reason_);
    }
    return Err(Code::kCancelled, "cancelled");
  }

 private:
  // Finds a source and takes from it what it gives in a turn; or waits. Errors: those that another source does not mend.
  Status Round(int* attempt) {
    v1::LocateReply place;
    const Status located = Locate(&place);
    if (!located) {
      reason_ = located.error().message;
      cancellation_.Pause(kReconnectBackoff.Delay((*attempt)++));
      return {};
    }
    if (!place.found()) {
      reason_ = "nobody has a place for " + options_.agent;
      cancellation_.Pause(
          std::clamp(std::chrono::milliseconds(place.wait_ms()), kMinWait, kMaxWait));
      return {};
    }
    const auto stub =
        place.address().empty()
            ? coordinator_
            : std::shared_ptr<BundleStub>(v1::Bundles::NewStub(OpenChannel(place.address())));
    const std::string source = place.address().empty() ? "coordinator" : place.address();
    const Status taken =
        Take(*stub, source, MonotonicNow() + std::chrono::milliseconds(place.turn_ms()));
    if (taken || !source_failed_) return taken;
    problem_ = reason_ = taken.error().message;
    log::warn("bundle=source-failed source={} error=\"{}\"", source, reason_);
    return {};
  }

  Status Locate(v1::LocateReply* place) {
    v1::LocateRequest request;
    request.set_agent(options_.agent);
    request.set_failed(source_failed_);
    request.set_problem(CleanText(problem_, kMaxProblem));
    MUSTER_TRY(Call(kCallTimeout, [&](grpc::ClientContext* context) {
      return coordinator_->Locate(context, request, place);
    }));
    source_failed_ = false;
    problem_.clear();
    return {};
  }

  // The manifest, then all other chunks that are missing, until `end`.
  Status Take(BundleStub& stub, const std::string& source, TimePoint end) {
    if (!manifest_) {
      if (!store_.Has(options_.bundle)) MUSTER_TRY(TakeChunk(stub, source, options_.bundle));
      MUSTER_ASSIGN(manifest_, store_.ReadManifest(options_.bundle));
      missing_ = store_.Missing(*manifest_);
      std::ranges::reverse(missing_);  // taken from the back
    }
    while (!missing_.empty() && MonotonicNow() < end) {
      MUSTER_TRY(TakeChunk(stub, source, missing_.back()));
      missing_.pop_back();
    }
    return {};
  }

  Status TakeChunk(BundleStub& stub, const std::string& source, const std::string& hash) {
    v1::ChunkRequest request;
    request.set_hash(hash);
    v1::ChunkReply reply;
    Status done = Call(options_.chunk_time, [&](grpc::ClientContext* context) {
      return stub.GetChunk(context, request, &reply);
    });
    source_failed_ = !done;
    if (done) done = store_.Put(hash, reply.data());
    source_failed_ |= !done && done.error().code == Code::kDataLoss;
    if (!done) {
      return Err(done.error().code, "chunk {:.12} from {}: {}", hash, source, done.error().message);
    }
    ++got_;
    ++chunks_from_[source];
    return {};
  }

  template <typename UnaryCall>
  Status Call(Duration time, UnaryCall call) {
    grpc::ClientContext context;
    Authenticate(context, options_.job, options_.secret);
    SetDeadline(context, MonotonicNow() + time);
    cancellation_.Enter(&context);
    const grpc::Status status = call(&context);
    cancellation_.Leave();
    if (status.ok()) return {};
    return tl::unexpected(FromGrpc(status));
  }

  const FetchOptions& options_;
  ChunkStore& store_;
  Cancellation& cancellation_;
  const std::shared_ptr<BundleStub> coordinator_;
  std::optional<Manifest> manifest_;
  std::vector<std::string> missing_;
  std::map<std::string, int> chunks_from_;
  size_t got_ = 0;              // chunks
  bool source_failed_ = false;  // the last one; not told yet
  std::string problem_;         // of the last source; not told yet
  std::string reason_ = "the coordinator does not answer";
};

}  // namespace

Result<Fetched> Fetch(const FetchOptions& options, ChunkStore& store, Cancellation& cancellation) {
  return Fetcher(options, store, cancellation).Run();
}

void ReportProblem(const FetchOptions& options, const std::string& problem) {
  const auto stub = v1::Bundles::NewStub(OpenChannel(options.coordinator));
  v1::LocateRequest request;
  request.set_agent(options.agent);
  request.set_problem(CleanText(problem, kMaxProblem));
  grpc::ClientContext context;
  Authenticate(context, options.job, options.secret);
  SetDeadline(context, MonotonicNow() + kCallTimeout);
  v1::LocateReply ignored;
  const grpc::Status told = stub->Locate(&context, request, &ignored);
  if (!told.ok()) log::warn("problem=not-told error=\"{}\"", told.error_message());
}

}  // namespace muster
