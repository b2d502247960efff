#include "runtime/train/ledger.h"

#include <fcntl.h>
#include <fmt/format.h>

#include "runtime/base/files.h"

namespace muster {

namespace {
constexpr uint64_t kMaxBytes = 64 << 20;
}  // namespace

SampleLedger::SampleLedger(const std::filesystem::path& path, int64_t dataset_size,
                           int micro_batches, int batch_size)
    : micro_batches_(static_cast<uint64_t>(micro_batches)),
      batch_size_(static_cast<uint64_t>(batch_size)) {
  std::error_code ignored;
  std::filesystem::create_directories(path.parent_path(), ignored);
  file_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  Write(fmt::format("{{\"dataset\":{},\"micro_batches\":{},\"batch_size\":{}}}\n", dataset_size,
                    micro_batches, batch_size));
}

void SampleLedger::Computed(uint64_t step, uint64_t generation, MicroBatchRange share) {
  const uint64_t position =
      (step * micro_batches_ + static_cast<uint64_t>(share.begin)) * batch_size_;
  Write(
      fmt::format("{{\"step\":{},\"generation\":{},\"micro_batches\":[{},{}],\"position\":{},"
                  "\"samples\":{}}}\n",
                  step, generation, share.begin, share.end, position,
                  static_cast<uint64_t>(share.size()) * batch_size_));
}

void SampleLedger::Finished(uint64_t steps) { Write(fmt::format("{{\"steps\":{}}}\n", steps)); }

void SampleLedger::Write(const std::string& line) {
  if (!file_) return;
  const bool full = written_ + line.size() > kMaxBytes;
  const std::string text = full ? "{\"full\":true}\n" : line;
  written_ += text.size();
  // A ledger that cannot be written (disk full) must not stop training.
  if (!WriteAll(file_.get(), std::as_bytes(std::span(text)), "ledger") || full) file_.reset();
}

}  // namespace muster
