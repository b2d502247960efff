#include "runtime/train/strips.h"

#include <gtest/gtest.h>

#include <numeric>

namespace muster {
namespace {

// Three parameters, two slots each; the first is long enough for strips of several blocks.
class StripsTest : public testing::Test {
 protected:
  static std::vector<size_t> Sizes() { return {300 * kBlockSize + 7, 3, 2 * kBlockSize}; }
  static std::vector<TensorSpec> Tensors() {
    std::vector<TensorSpec> tensors;
    for (int copy = 0; copy < 3; ++copy) {
      for (const size_t size : Sizes()) {
        tensors.push_back(
            {fmt::format("t{}", tensors.size()), "F32", {static_cast<int64_t>(size)}});
      }
    }
    const auto blocks = static_cast<int64_t>(BlockLayout(Sizes()).blocks());
    tensors.push_back({"exponents", "I16", {blocks}});
    return tensors;
  }

  const BlockLayout layout_{Sizes()};
  State state_{Tensors()};
  Strips strips_{state_, layout_, 3};
};

TEST_F(StripsTest, CoverEveryBlockOnce) {
  size_t next = 0;
  for (size_t strip = 0; strip < strips_.count(); ++strip) {
    EXPECT_EQ(strips_.blocks(strip).begin, next);
    EXPECT_GT(strips_.blocks(strip).end, next);
    next = strips_.blocks(strip).end;
  }
  EXPECT_EQ(next, layout_.blocks());
  EXPECT_GE(strips_.count(), kManyStrips);
}

TEST_F(StripsTest, CarryAllThatIsNotHeader) {
  for (size_t tensor = 0; tensor < state_.tensors().size(); ++tensor) {
    const auto bytes = state_.tensor_bytes(tensor);
    std::iota(reinterpret_cast<uint8_t*>(bytes.data()),
              reinterpret_cast<uint8_t*>(bytes.data() + bytes.size()), uint8_t(tensor * 37 + 1));
  }
  State copy(Tensors());
  Strips other(copy, layout_, 3);
  for (size_t strip = 0; strip < strips_.count(); ++strip) {
    std::vector<std::byte> packed(strips_.bytes(strip));
    strips_.Copy(strip, packed);
    other.Place(strip, packed);
  }
  EXPECT_TRUE(std::ranges::equal(copy.image(), state_.image()));
}

TEST_F(StripsTest, APageIsAtThePositionOfAllItsStrips) {
  std::vector<uint64_t> positions(strips_.count(), 5);
  strips_.MarkPages(positions);
  EXPECT_EQ(state_.page_version(0), UINT64_MAX) << "its header is in no strip";
  for (size_t page = 1; page < state_.pages(); ++page) EXPECT_EQ(state_.page_version(page), 5u);

  // Some strip in the middle is late: the pages with a part of it are at no position.
  const size_t late = strips_.count() / 2;
  positions[late] = 4;
  strips_.MarkPages(positions);
  size_t unknown = 0;
  for (size_t page = 1; page < state_.pages(); ++page) {
    EXPECT_NE(state_.page_version(page), 4u) << "no page lies within so small a strip";
    unknown += state_.page_version(page) == UINT64_MAX ? 1 : 0;
  }
  EXPECT_GE(unknown, 3u) << "one of the parameter, one of each slot";
  EXPECT_LT(unknown, state_.pages() - 1);
}

}  // namespace
}  // namespace muster
