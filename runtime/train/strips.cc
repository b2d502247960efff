#include "runtime/train/strips.h"

#include <algorithm>
#include <cstring>

#include "runtime/base/check.h"

namespace muster {

Strips::Strips(State& state, const BlockLayout& layout, size_t parameters)
    : state_(state),
      layout_(layout),
      parameters_(parameters),
      slots_((state.tensors().size() - 1) / parameters - 1),
      blocks_per_strip_(std::clamp<size_t>(layout.blocks() / kManyStrips, 1, kStripBlocks)),
      first_elements_(1, 0) {
  MUSTER_CHECK(state.tensors().size() == parameters * (slots_ + 1) + 1, "{} tensors, {} parameters",
               state.tensors().size(), parameters);
  for (size_t i = 0; i < parameters; ++i) {
    first_elements_.push_back(first_elements_.back() +
                              static_cast<size_t>(state.tensors()[i].elements()));
  }
  const size_t count = (layout.blocks() + blocks_per_strip_ - 1) / blocks_per_strip_;
  for (size_t strip = 0; strip < count; ++strip) {
    size_t bytes = 0;
    for (const auto part : Parts(strip)) bytes += part.size();
    bytes_.push_back(bytes);
  }
}

BlockRange Strips::blocks(size_t strip) const {
  return {strip * blocks_per_strip_, std::min((strip + 1) * blocks_per_strip_, layout_.blocks())};
}

std::vector<std::span<std::byte>> Strips::Parts(size_t strip) const {
  std::vector<std::span<std::byte>> parts;
  const BlockRange range = blocks(strip);
  const size_t begin = layout_.begin(range.begin);
  const size_t end = layout_.begin(range.end);
  const auto after = std::ranges::upper_bound(first_elements_, begin);
  for (auto i = static_cast<size_t>(after - first_elements_.begin()) - 1;
       i < parameters_ && first_elements_[i] < end; ++i) {
    const size_t from = std::max(begin, first_elements_[i]) - first_elements_[i];
    const size_t to = std::min(end, first_elements_[i + 1]) - first_elements_[i];
    for (size_t tensor = i; tensor < parameters_ * (slots_ + 1); tensor += parameters_) {
      parts.push_back(
          state_.tensor_bytes(tensor).subspan(from * sizeof(float), (to - from) * sizeof(float)));
    }
  }
  parts.push_back(std::as_writable_bytes(state_.tensor<int16_t>(state_.tensors().size() - 1)
                                             .subspan(range.begin, range.end - range.begin)));
  return parts;
}

void Strips::Copy(size_t strip, std::span<std::byte> packed) const {
  MUSTER_CHECK(packed.size() == bytes_[strip], "{} of {}", packed.size(), bytes_[strip]);
  for (const auto part : Parts(strip)) {
    std::memcpy(packed.data(), part.data(), part.size());
    packed = packed.subspan(part.size());
  }
}

void Strips::Place(size_t strip, std::span<const std::byte> packed) {
  MUSTER_CHECK(packed.size() == bytes_[strip], "{} of {}", packed.size(), bytes_[strip]);
  for (const auto part : Parts(strip)) {
    std::memcpy(part.data(), packed.data(), part.size());
    packed = packed.subspan(part.size());
  }
}

void Strips::MarkPages(std::span<const uint64_t> positions) {
  MUSTER_CHECK(positions.size() == count(), "{} of {}", positions.size(), count());
  std::vector<bool> seen(state_.pages());
  for (size_t strip = 0; strip < count(); ++strip) {
    for (const auto part : Parts(strip)) {
      if (part.empty()) continue;
      const auto begin = static_cast<size_t>(part.data() - state_.image().data());
      for (size_t page = begin / kPageBytes; page <= (begin + part.size() - 1) / kPageBytes;
           ++page) {
        const bool same = !seen[page] || state_.page_version(page) == positions[strip];
        state_.set_page_version(page, same ? positions[strip] : UINT64_MAX);
        seen[page] = true;
      }
    }
  }
  state_.set_page_version(0, UINT64_MAX);
}

}  // namespace muster
