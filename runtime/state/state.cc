#include "runtime/state/state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <type_traits>
#include <unordered_set>

namespace muster {
namespace {

static_assert(std::is_trivially_copyable_v<StateHeader> && sizeof(StateHeader) == 128);
static_assert(sizeof(StateHeader) % kTensorAlignment == 0 && kPageBytes % kTensorAlignment == 0);

size_t AlignUp(size_t bytes) {
  return (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
}

void CheckTensors(const std::vector<TensorSpec>& tensors) {
  std::unordered_set<std::string> names;
  for (const TensorSpec& tensor : tensors) {
    MUSTER_CHECK(!tensor.name.empty(), "a tensor without a name");
    MUSTER_CHECK(names.insert(tensor.name).second, "two tensors named {}", tensor.name);
    MUSTER_CHECK(ElementBytes(tensor.type) != 0, "{} has type {}", tensor.name, tensor.type);
    for (const int64_t dimension : tensor.shape) {
      MUSTER_CHECK(dimension >= 0, "{} is {}", tensor.name, tensor.ToString());
    }
  }
}

}  // namespace

size_t ElementBytes(const std::string& type) {
  if (type == "F32") return 4;
  if (type == "I16") return 2;
  if (type == "I64") return 8;
  return 0;
}

int64_t TensorSpec::elements() const {
  int64_t elements = 1;
  for (const int64_t dimension : shape) {
    MUSTER_CHECK(!__builtin_mul_overflow(elements, dimension, &elements), "{} is {}", name,
                 ToString());
  }
  return elements;
}

size_t TensorSpec::bytes() const { return static_cast<size_t>(elements()) * ElementBytes(type); }

std::string TensorSpec::ToString() const {
  return fmt::format("{}[{}]", type, fmt::join(shape, ","));
}

State::State(std::vector<TensorSpec> tensors) : tensors_(std::move(tensors)) {
  CheckTensors(tensors_);
  size_t end = sizeof(StateHeader);
  for (const TensorSpec& tensor : tensors_) {
    offsets_.push_back(end);
    end = AlignUp(end + tensor.bytes());
  }
  image_.resize(end);
  ::new (image_.data()) StateHeader();
  versions_.resize((end + kPageBytes - 1) / kPageBytes);
}

std::span<std::byte> State::tensor_bytes(size_t index) {
  return image().subspan(offsets_[index], tensors_[index].bytes());
}

std::span<const std::byte> State::tensor_bytes(size_t index) const {
  return image().subspan(offsets_[index], tensors_[index].bytes());
}

std::span<std::byte> State::page(size_t index) {
  const size_t begin = index * kPageBytes;
  return image().subspan(begin, std::min(kPageBytes, image_.size() - begin));
}

std::span<const std::byte> State::page(size_t index) const {
  const size_t begin = index * kPageBytes;
  return image().subspan(begin, std::min(kPageBytes, image_.size() - begin));
}

void State::set_all_page_versions(uint64_t position) {
  std::fill(versions_.begin(), versions_.end(), position);
}

uint64_t State::schema_hash() const {
  // Lengths go in too, so that no two lists of tensors give the same text.
  std::string text;
  for (const TensorSpec& tensor : tensors_) {
    text += fmt::format("{}:{}{};", tensor.name.size(), tensor.name, tensor.ToString());
  }
  return HashBytes(std::as_bytes(std::span(text))).low;
}

}  // namespace muster
