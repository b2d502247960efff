#include "models/digits/data.h"

#include <algorithm>
#include <array>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "models/digits/csv.h"
#include "models/digits/idx.h"
#include "runtime/base/check.h"
#include "runtime/base/files.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kHoldOutSeed = 1797;  // which rows are the test set; never changes
constexpr int64_t kFewestRows = 5;       // a fifth of them is one

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

MemoryDataset Take(const MemoryDataset& all, std::span<const int64_t> rows) {
  Batch batch;
  MUSTER_CHECK(all.Read(rows, batch).has_value());
  return MemoryDataset(std::move(batch.features), all.features(), std::move(batch.labels), 1);
}

MemoryDataset ToDataset(Samples samples) {
  return MemoryDataset(std::move(samples.pixels), samples.width, std::move(samples.labels), 1);
}

Result<DigitData> SplitCsv(std::string_view text, const std::string& name) {
  MUSTER_ASSIGN(Samples samples, ParseDigitsCsv(text, name));
  if (std::cmp_less(samples.labels.size(), kFewestRows)) {
    return Err(Code::kDataLoss, "{}: expected at least {} rows, found {}", name, kFewestRows,
               samples.labels.size());
  }
  const MemoryDataset all = ToDataset(std::move(samples));
  const SampleOrder order(kHoldOutSeed, all.size());
  std::vector<int64_t> rows(all.size());
  for (int64_t i = 0; i < all.size(); ++i) rows[i] = order.SampleAt(i);
  const auto test_size = static_cast<size_t>(all.size() / 5);
  return DigitData{Take(all, std::span(rows).subspan(test_size)),
                   Take(all, std::span(rows).first(test_size))};
}

// One of MNIST's files, whose names are spread with a dash or a dot before "idx".
Result<fs::path> FindIdx(const fs::path& folder, const std::string& stem,
                         const std::string& suffix) {
  const fs::path standard = folder / (stem + "-" + suffix);
  for (const fs::path& path : {standard, folder / (stem + "." + suffix)}) {
    if (Exists(path)) return path;
    if (Exists(path.string() + ".gz")) {
      return WithHint(Err(Code::kNotFound, "{} is not there, but {}.gz is", path.string(),
                          path.filename().string()),
                      "unpack it with gunzip");
    }
  }
  return WithHint(Err(Code::kNotFound, "{} is not there", standard.string()),
                  "--data takes a folder with digits.csv, or with the four files of MNIST");
}

Result<Samples> LoadIdx(const fs::path& folder, const std::string& part) {
  MUSTER_ASSIGN(const fs::path images_path, FindIdx(folder, part + "-images", "idx3-ubyte"));
  MUSTER_ASSIGN(const fs::path labels_path, FindIdx(folder, part + "-labels", "idx1-ubyte"));
  MUSTER_ASSIGN(const std::string image_bytes, ReadFile(images_path));
  MUSTER_ASSIGN(const std::string label_bytes, ReadFile(labels_path));
  MUSTER_ASSIGN(IdxImages images, ParseIdxImages(image_bytes, images_path.string()));
  MUSTER_ASSIGN(std::vector<int32_t> labels, ParseIdxLabels(label_bytes, labels_path.string()));
  return JoinIdx(std::move(images), images_path.string(), std::move(labels), labels_path.string());
}

Result<DigitData> LoadMnist(const fs::path& folder) {
  MUSTER_ASSIGN(Samples train, LoadIdx(folder, "train"));
  MUSTER_ASSIGN(Samples test, LoadIdx(folder, "t10k"));
  if (train.width != test.width) {
    return Err(Code::kDataLoss, "{}: training images have {} pixels, test images {}",
               folder.string(), train.width, test.width);
  }
  return DigitData{ToDataset(std::move(train)), ToDataset(std::move(test))};
}

}  // namespace

Result<DigitData> LoadDigits(const fs::path& folder) {
  if (folder.empty()) return SplitCsv(EmbeddedDigits(), "built-in digits.csv");
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return Err(Code::kNotFound, "--data {}: {}", folder.string(),
               error ? error.message() : "not a folder");
  }
  const fs::path csv = folder / "digits.csv";
  if (!Exists(csv)) return LoadMnist(folder);
  MUSTER_ASSIGN(const std::string text, ReadFile(csv));
  return SplitCsv(text, csv.string());
}

}  // namespace muster
