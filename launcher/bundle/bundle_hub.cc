#include "launcher/bundle/bundle_hub.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "launcher/bundle/bundle_service.h"
#include "runtime/base/log.h"
#include "runtime/base/thread_annotations.h"
#include "runtime/rpc/convert.h"
#include "runtime/rpc/server.h"

namespace muster {
namespace {

using nlohmann::ordered_json;

constexpr size_t kMaxProblems = 64;  // that become events; who has more of them has one reason
constexpr std::chrono::seconds kSilence{10};  // without a source and without a new chunk

int64_t Millis(Duration duration) {
  return std::chrono::ceil<std::chrono::milliseconds>(duration).count();
}

}  // namespace

class BundleHub::Impl final : public ChunkService {
 public:
  Impl(BundleHubOptions options, std::unique_ptr<ChunkStore> store)
      : ChunkService(options.job, options.secret, *store),
        options_(std::move(options)),
        store_(std::move(store)) {}

  grpc::ServerUnaryReactor* Locate(grpc::CallbackServerContext* context,
                                   const v1::LocateRequest* request,
                                   v1::LocateReply* reply) override {
    Status accepted = CheckCaller(*context);
    if (accepted) accepted = CheckId("agent", request->agent());
    if (!accepted) return Answer(context, accepted);
    const ShareAnswer answer = SourceFor(*request);
    reply->set_found(answer.found);
    reply->set_address(answer.address);
    reply->set_turn_ms(Millis(answer.turn));
    reply->set_wait_ms(Millis(answer.wait));
    return Answer(context, {});
  }

  void Hold(const std::string& agent, const std::string& address) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    core_.Hold(agent, address, MonotonicNow());
  }

  std::string StateText() EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const size_t sources = core_.CountSources(MonotonicNow());
    std::vector<std::string> missing;
    if (sources == 0 && !manifest_) missing.push_back(options_.bundle);
    if (sources == 0) missing.insert(missing.end(), missing_.begin(), missing_.end());
    const ordered_json state = {{"bundle", options_.bundle},
                                {"whole", whole()},
                                {"sources", sources},
                                {"missing", missing}};
    return state.dump();
  }

  Result<std::string> Put(const std::string& hash, const std::string& compressed) EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      if (hash != options_.bundle && !chunks_.contains(hash)) {
        return WithHint(
            Err(Code::kInvalidArgument, "\"{:.64}\" is no chunk of this job", hash),
            manifest_ ? "GET /v1/bundle lists those that are missing" : "the manifest comes first");
      }
    }
    MUSTER_TRY(store_->Put(hash, compressed));
    std::string sentence;
    size_t missing = 0;
    {
      MutexLock lock(mutex_);
      arrived_ = MonotonicNow();
      const bool before = whole();
      if (hash == options_.bundle && !manifest_) MUSTER_TRY(TakeManifest());
      missing_.erase(hash);
      missing = missing_.size();
      if (whole() && !before) {
        core_.SetWhole();
        sentence =
            fmt::format("the program has arrived: {}, {}", CountText(manifest_->entries().size()),
                        BytesText(manifest_->bytes()));
      }
    }
    Note(sentence);
    return ordered_json{{"missing", missing}}.dump();
  }

 private:
  static std::string CountText(size_t files) {
    return files == 1 ? "1 file" : fmt::format("{} files", files);
  }

  bool whole() const REQUIRES(mutex_) { return manifest_ && missing_.empty(); }

  Status TakeManifest() REQUIRES(mutex_) {
    MUSTER_ASSIGN(manifest_, store_->ReadManifest(options_.bundle));
    const std::vector<std::string> chunks = manifest_->Chunks();
    chunks_.insert(chunks.begin(), chunks.end());
    const std::vector<std::string> missing = store_->Missing(*manifest_);
    missing_.insert(missing.begin(), missing.end());
    return {};
  }

  ShareAnswer SourceFor(const v1::LocateRequest& request) EXCLUDES(mutex_) {
    std::string sentence;
    ShareAnswer answer;
    {
      MutexLock lock(mutex_);
      const TimePoint now = MonotonicNow();
      answer = core_.Locate(request.agent(), request.failed(), now);
      if (answer.found) told_missing_ = false;
      const bool nobody = !answer.found && core_.CountSources(now) == 0;
      if (nobody && now - arrived_ > kSilence && !std::exchange(told_missing_, true)) {
        sentence = fmt::format(
            "{} waits for the program, which nobody here has: the `launcher run` that started the "
            "job sends it as long as it follows the job",
            request.agent());
      }
      if (!request.problem().empty() && problems_ < kMaxProblems) {
        ++problems_;
        sentence = fmt::format(
            "{} {}: {}", request.agent(),
            request.failed() ? "fetches the program elsewhere" : "cannot have the program",
            CleanText(request.problem(), kMaxSentence));
      }
    }
    Note(sentence);
    return answer;
  }

  void Note(const std::string& sentence) {
    if (sentence.empty()) return;
    log::info("bundle=\"{}\"", sentence);
    if (options_.note) options_.note(sentence);
  }

  static constexpr size_t kMaxSentence = 512;

  const BundleHubOptions options_;
  const std::unique_ptr<ChunkStore> store_;
  Mutex mutex_;
  ShareCore core_ GUARDED_BY(mutex_){options_.share};
  std::optional<Manifest> manifest_ GUARDED_BY(mutex_);
  std::set<std::string> chunks_ GUARDED_BY(mutex_);   // of the manifest
  std::set<std::string> missing_ GUARDED_BY(mutex_);  // of these
  TimePoint arrived_ GUARDED_BY(mutex_) = MonotonicNow();
  bool told_missing_ GUARDED_BY(mutex_) = false;
  size_t problems_ GUARDED_BY(mutex_) = 0;
};

Result<std::unique_ptr<BundleHub>> BundleHub::Create(BundleHubOptions options) {
  MUSTER_ASSIGN(auto store, ChunkStore::Open(options.folder));
  return std::unique_ptr<BundleHub>(
      new BundleHub(std::make_unique<Impl>(std::move(options), std::move(store))));
}

BundleHub::BundleHub(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BundleHub::~BundleHub() = default;
grpc::Service& BundleHub::service() { return *impl_; }
void BundleHub::Hold(const std::string& agent, const std::string& address) {
  impl_->Hold(agent, address);
}
std::string BundleHub::StateText() { return impl_->StateText(); }
Result<std::string> BundleHub::Put(const std::string& hash, const std::string& compressed) {
  return impl_->Put(hash, compressed);
}

}  // namespace muster
