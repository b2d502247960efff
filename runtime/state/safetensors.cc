#include "runtime/state/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

namespace muster {
namespace {

constexpr std::string_view kMetadata = "__metadata__";

// A strict reader of the header: it knows which token may come next, so a file cannot make it build anything but tensors.
// Each handler returns false to stop, with the reason in `error`.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<PlacedTensor> tensors;
  std::string error;

  bool start_object(size_t) override {
    if (depth_ == 0) return Enter();
    if (depth_ != 1) return Refuse("an object too deep");
    fields_.clear();
    tensor_ = {};
    offsets_.clear();
    return Enter();
  }

  bool key(std::string& name) override {
    if (depth_ == 1) {
      name_ = name;
      return names_.insert(name).second || Refuse("comes twice");
    }
    field_ = name;
    if (!fields_.insert(name).second) return Refuse("has two fields \"" + name + "\"");
    if (name_ == kMetadata || name == "dtype" || name == "shape" || name == "data_offsets") {
      return true;
    }
    return Refuse("has an unknown field \"" + name + "\"");
  }

  bool string(std::string& value) override {
    if (depth_ == 2 && !in_array_ && name_ == kMetadata) return true;
    if (depth_ != 2 || in_array_ || field_ != "dtype") return Refuse("has a string out of place");
    tensor_.spec.type = value;
    return true;
  }

  bool start_array(size_t) override {
    if (depth_ != 2 || in_array_ || name_ == kMetadata || field_ == "dtype") {
      return Refuse("has an array out of place");
    }
    in_array_ = true;
    return true;
  }

  bool end_array() override {
    in_array_ = false;
    return true;
  }

  bool number_unsigned(uint64_t value) override {
    if (!in_array_) return Refuse("has a number out of place");
    if (value > static_cast<uint64_t>(INT64_MAX)) return Refuse("has a number over 2^63");
    if (field_ == "shape") {
      tensor_.spec.shape.push_back(static_cast<int64_t>(value));
    } else {
      offsets_.push_back(value);
    }
    return offsets_.size() <= 2 || Refuse("has more than two data_offsets");
  }

  bool end_object() override {
    --depth_;
    return depth_ == 0 || name_ == kMetadata || Finish();
  }

  bool null() override { return Refuse("has a null"); }
  bool boolean(bool) override { return Refuse("has a boolean"); }
  bool number_integer(int64_t) override { return Refuse("has a negative number"); }
  bool number_float(double, const std::string&) override { return Refuse("has a fraction"); }
  bool binary(nlohmann::json::binary_t&) override { return Refuse("has binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    error = fmt::format("the header is not JSON at byte {}", position);
    return false;
  }

 private:
  bool Enter() {
    ++depth_;
    return true;
  }

  bool Refuse(const std::string& reason) {
    error = name_.empty() ? "the header " + reason : "tensor \"" + name_ + "\" " + reason;
    return false;
  }

  bool Finish() {
    for (const char* field : {"dtype", "shape", "data_offsets"}) {
      if (!fields_.contains(field)) return Refuse(std::string("has no ") + field);
    }
    const uint64_t element_bytes = ElementBytes(tensor_.spec.type);
    if (element_bytes == 0) return Refuse("has the unknown type " + tensor_.spec.type);
    uint64_t bytes = element_bytes;
    for (const int64_t dimension : tensor_.spec.shape) {
      if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dimension), &bytes)) {
        return Refuse("is too large");
      }
    }
    if (offsets_.size() != 2 || offsets_[0] > offsets_[1] || offsets_[1] - offsets_[0] != bytes) {
      return Refuse(
          fmt::format("is {}, which does not fit its data_offsets", tensor_.spec.ToString()));
    }
    tensor_.spec.name = name_;
    tensor_.begin = offsets_[0];
    tensor_.end = offsets_[1];
    tensors.push_back(std::move(tensor_));
    return true;
  }

  int depth_ = 0;
  bool in_array_ = false;
  std::string name_;   // of the tensor
  std::string field_;  // of the tensor's object
  std::unordered_set<std::string> names_;
  std::unordered_set<std::string> fields_;
  PlacedTensor tensor_;
  std::vector<uint64_t> offsets_;
};

Status CheckContiguous(const std::vector<PlacedTensor>& tensors, uint64_t data_bytes) {
  uint64_t end = 0;
  for (const PlacedTensor& tensor : tensors) {
    if (tensor.begin != end) {
      return Err(Code::kDataLoss, "tensor \"{}\" {} the one before it: it begins at {}, not at {}",
                 tensor.spec.name, tensor.begin < end ? "overlaps" : "leaves a gap after",
                 tensor.begin, end);
    }
    end = tensor.end;
  }
  if (end != data_bytes) {
    return Err(Code::kDataLoss, "the tensors take {} bytes, but the file has {} after its header",
               end, data_bytes);
  }
  return {};
}

}  // namespace

Result<std::string> EncodeSafetensorsHead(std::span<const TensorSpec> tensors) {
  std::string json = "{";
  uint64_t offset = 0;
  for (const TensorSpec& tensor : tensors) {
    if (tensor.name == kMetadata) {
      return Err(Code::kInvalidArgument, "a tensor cannot be named {}", kMetadata);
    }
    const uint64_t end = offset + tensor.bytes();
    try {
      json += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}",
                          json.size() == 1 ? "" : ",", nlohmann::json(tensor.name).dump(),
                          tensor.type, nlohmann::json(tensor.shape).dump(), offset, end);
    } catch (const nlohmann::json::exception&) {
      return Err(Code::kInvalidArgument, "the name of tensor \"{}\" is not UTF-8", tensor.name);
    }
    offset = end;
  }
  json += '}';
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > kMaxSafetensorsHeader) {
    return Err(Code::kOutOfRange, "{} tensors need a header of {} bytes, at most {} are allowed",
               tensors.size(), json.size(), kMaxSafetensorsHeader);
  }
  const uint64_t length = json.size();
  std::string head(kSafetensorsLengthBytes, '\0');
  std::memcpy(head.data(), &length, sizeof length);
  return head + json;
}

Result<uint64_t> ParseSafetensorsLength(std::span<const std::byte, kSafetensorsLengthBytes> bytes,
                                        uint64_t file_bytes) {
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length < 2 || length > kMaxSafetensorsHeader) {
    return Err(Code::kDataLoss, "the header length is {}, but must be 2 to {}", length,
               kMaxSafetensorsHeader);
  }
  if (file_bytes < kSafetensorsLengthBytes || length > file_bytes - kSafetensorsLengthBytes) {
    return Err(Code::kDataLoss, "the header length is {}, but the file has {} bytes", length,
               file_bytes);
  }
  return length;
}

Result<std::vector<PlacedTensor>> ParseSafetensorsHeader(std::string_view json,
                                                         uint64_t file_bytes) {
  if (json.empty() || json.front() != '{') {
    return Err(Code::kDataLoss, "the header does not begin with '{{'");
  }
  // nlohmann's lexer takes a zero byte for the end and would not look at what follows.
  if (json.find('\0') != std::string_view::npos) {
    return Err(Code::kDataLoss, "the header is not JSON: it has a zero byte");
  }
  HeaderReader reader;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &reader)) {
    return Err(Code::kDataLoss, "{}", reader.error);
  }
  std::vector<PlacedTensor> tensors = std::move(reader.tensors);
  std::ranges::sort(tensors, {}, [](const PlacedTensor& tensor) {
    return std::pair(tensor.begin, tensor.end);  // an empty tensor before the one at its place
  });
  const uint64_t data_begin = kSafetensorsLengthBytes + json.size();
  MUSTER_TRY(CheckContiguous(tensors, file_bytes - data_begin));
  for (PlacedTensor& tensor : tensors) {
    tensor.begin += data_begin;
    tensor.end += data_begin;
  }
  return tensors;
}

std::optional<std::string> FirstDifference(std::span<const TensorSpec> expected,
                                           std::span<const TensorSpec> found) {
  std::unordered_map<std::string_view, const TensorSpec*> by_name;
  for (const TensorSpec& tensor : found) by_name.emplace(tensor.name, &tensor);
  for (const TensorSpec& tensor : expected) {
    const auto at = by_name.find(tensor.name);
    if (at == by_name.end()) {
      return fmt::format("tensor \"{}\" ({}) is missing", tensor.name, tensor.ToString());
    }
    if (*at->second != tensor) {
      return fmt::format("tensor \"{}\" is {}, but {} is expected", tensor.name,
                         at->second->ToString(), tensor.ToString());
    }
    by_name.erase(at);
  }
  for (const TensorSpec& tensor : found) {
    if (by_name.contains(tensor.name)) {
      return fmt::format("tensor \"{}\" ({}) is not expected", tensor.name, tensor.ToString());
    }
  }
  return std::nullopt;
}

}  // namespace muster
