#include "models/digits/idx.h"

#include <utility>

namespace muster {
namespace {

constexpr uint32_t kImagesMagic = 0x00000803;  // unsigned bytes, three dimensions
constexpr uint32_t kLabelsMagic = 0x00000801;  // unsigned bytes, one dimension
constexpr uint32_t kMostRows = 4096;           // no image of a digit is larger

// Reads a file from its start and knows where it is.
class IdxReader {
 public:
  IdxReader(std::string_view bytes, std::string_view name) : bytes_(bytes), name_(name) {}

  Result<uint32_t> Number(std::string_view what) {
    if (bytes_.size() - offset_ < 4) {
      return Err(Code::kDataLoss, "{}: offset {}: expected 4 bytes of {}, found {}", name_, offset_,
                 what, bytes_.size() - offset_);
    }
    uint32_t number = 0;
    for (char byte : bytes_.substr(offset_, 4)) number = number << 8 | static_cast<uint8_t>(byte);
    offset_ += 4;
    return number;
  }

  Status Magic(uint32_t expected, std::string_view what) {
    if (bytes_.starts_with("\x1f\x8b")) {
      return WithHint(Err(Code::kDataLoss, "{} is compressed", name_), "unpack it with gunzip");
    }
    MUSTER_ASSIGN(const uint32_t magic, Number("magic number"));
    if (magic == expected) return {};
    return Err(Code::kDataLoss, "{}: offset 0: expected magic number {:#010x} ({}), found {:#010x}",
               name_, expected, what, magic);
  }

  // An extent from 1 to `most`.
  Result<int64_t> Extent(std::string_view what, uint32_t most) {
    MUSTER_ASSIGN(const uint32_t extent, Number(what));
    if (extent >= 1 && extent <= most) return int64_t{extent};
    return Err(Code::kDataLoss, "{}: offset {}: expected a {} from 1 to {}, found {}", name_,
               offset_ - 4, what, most, extent);
  }

  // All the bytes that are left, which must be `count`.
  Result<std::string_view> Rest(int64_t count, std::string_view what) {
    const std::string_view rest = bytes_.substr(offset_);
    if (std::cmp_equal(rest.size(), count)) return rest;
    return Err(Code::kDataLoss, "{}: offset {}: expected {} bytes of {}, found {}", name_, offset_,
               count, what, rest.size());
  }

 private:
  std::string_view bytes_;
  std::string_view name_;
  size_t offset_ = 0;
};

}  // namespace

Result<IdxImages> ParseIdxImages(std::string_view bytes, std::string_view name) {
  IdxReader reader(bytes, name);
  MUSTER_TRY(reader.Magic(kImagesMagic, "images"));
  IdxImages images;
  MUSTER_ASSIGN(images.count, reader.Extent("number of images", INT32_MAX));
  MUSTER_ASSIGN(const int64_t rows, reader.Extent("number of rows", kMostRows));
  MUSTER_ASSIGN(const int64_t columns, reader.Extent("number of columns", kMostRows));
  images.width = rows * columns;
  MUSTER_ASSIGN(const std::string_view pixels, reader.Rest(images.count * images.width, "pixels"));
  images.pixels.reserve(pixels.size());
  for (char pixel : pixels) images.pixels.push_back(static_cast<uint8_t>(pixel) / 255.0f);
  return images;
}

Result<std::vector<int32_t>> ParseIdxLabels(std::string_view bytes, std::string_view name) {
  IdxReader reader(bytes, name);
  MUSTER_TRY(reader.Magic(kLabelsMagic, "labels"));
  MUSTER_ASSIGN(const int64_t count, reader.Extent("number of labels", INT32_MAX));
  MUSTER_ASSIGN(const std::string_view values, reader.Rest(count, "labels"));
  std::vector<int32_t> labels;
  labels.reserve(values.size());
  for (char byte : values) {
    const auto label = static_cast<uint8_t>(byte);
    if (label >= kDigitClasses) {
      return Err(Code::kDataLoss, "{}: offset {}: expected a label from 0 to {}, found {}", name,
                 bytes.size() - values.size() + labels.size(), kDigitClasses - 1, label);
    }
    labels.push_back(label);
  }
  return labels;
}

Result<Samples> JoinIdx(IdxImages images, std::string_view images_name, std::vector<int32_t> labels,
                        std::string_view labels_name) {
  if (!std::cmp_equal(labels.size(), images.count)) {
    return Err(Code::kDataLoss, "{} holds {} images, but {} holds {} labels", images_name,
               images.count, labels_name, labels.size());
  }
  return Samples{std::move(images.pixels), images.width, std::move(labels)};
}

}  // namespace muster
