#include "runtime/state/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

namespace muster {
namespace {

using testing::AssertionFailure;
using testing::AssertionResult;
using testing::AssertionSuccess;

// `json` padded as files have it, in a file with `data_bytes` after it.
Result<std::vector<PlacedTensor>> Parse(std::string json, uint64_t data_bytes) {
  return ParseSafetensorsHeader(json, kSafetensorsLengthBytes + json.size() + data_bytes);
}

AssertionResult IsRefused(const std::string& json, uint64_t data_bytes, const std::string& reason) {
  const auto parsed = Parse(json, data_bytes);
  if (parsed) return AssertionFailure() << "accepted " << json;
  if (parsed.error().code != Code::kDataLoss) return AssertionFailure() << "wrong code";
  if (parsed.error().message.find(reason) != std::string::npos) return AssertionSuccess();
  return AssertionFailure() << json << " refused with: " << parsed.error().message;
}

Result<uint64_t> ParseLength(uint64_t length, uint64_t file_bytes) {
  std::byte bytes[kSafetensorsLengthBytes];
  std::memcpy(bytes, &length, sizeof length);
  return ParseSafetensorsLength(bytes, file_bytes);
}

TEST(Safetensors, ReadsBackWhatItWrote) {
  const std::vector<TensorSpec> tensors = {{"w", "F32", {2, 3}},
                                           {"scalar", "F32", {}},
                                           {"none", "F32", {0}},
                                           {"e \"\u00e4", "I16", {1}}};
  const auto head = EncodeSafetensorsHead(tensors);
  ASSERT_TRUE(head) << head.error().ToString();
  EXPECT_EQ(head->size() % 8, 0u);
  const std::string json = head->substr(8);
  const auto length = ParseSafetensorsLength(
      std::as_bytes(std::span(*head)).first<kSafetensorsLengthBytes>(), head->size() + 30);
  ASSERT_TRUE(length);
  EXPECT_EQ(*length, json.size());
  const auto placed = Parse(json, 30);
  ASSERT_TRUE(placed) << placed.error().ToString();
  ASSERT_EQ(placed->size(), tensors.size());
  uint64_t begin = head->size();
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ((*placed)[i].spec, tensors[i]);
    EXPECT_EQ((*placed)[i].begin, begin);
    begin = (*placed)[i].end;
  }
  EXPECT_EQ(begin, head->size() + 30);
}

TEST(Safetensors, AFileWithoutTensorsIsAnEmptyObject) {
  const auto head = EncodeSafetensorsHead({});
  ASSERT_TRUE(head);
  EXPECT_EQ(head->substr(8), "{}      ");
  EXPECT_TRUE(Parse("{}", 0));
}

TEST(Safetensors, ReadsMetadataAndAnyOrderOfTensorsAndFields) {
  const auto placed =
      Parse(R"({"b":{"data_offsets":[4,8],"shape":[1],"dtype":"F32"},"__metadata__":{"by":"x"},)"
            R"("a":{"dtype":"I16","shape":[2],"data_offsets":[0,4]}})",
            8);
  ASSERT_TRUE(placed) << placed.error().ToString();
  ASSERT_EQ(placed->size(), 2u);
  EXPECT_EQ((*placed)[0].spec.name, "a");
  EXPECT_EQ((*placed)[1].spec.name, "b");
}

TEST(Safetensors, RefusesHeaderLengthsThatNoFileHas) {
  for (const uint64_t length :
       {uint64_t{0}, uint64_t{1}, kMaxSafetensorsHeader + 1, uint64_t{1} << 63, UINT64_MAX}) {
    const auto parsed = ParseLength(length, UINT64_MAX);
    ASSERT_FALSE(parsed) << length;
    EXPECT_EQ(parsed.error().code, Code::kDataLoss);
    EXPECT_NE(parsed.error().message.find(std::to_string(length)), std::string::npos);
  }
  EXPECT_TRUE(ParseLength(92, 100));
  EXPECT_FALSE(ParseLength(93, 100));
  EXPECT_FALSE(ParseLength(2, 7));
}

TEST(Safetensors, RefusesHeadersThatAreNotOneObjectOfTensors) {
  EXPECT_TRUE(IsRefused("", 0, "does not begin with '{'"));
  EXPECT_TRUE(IsRefused("[]", 0, "does not begin with '{'"));
  EXPECT_TRUE(IsRefused(" {}", 0, "does not begin with '{'"));
  EXPECT_TRUE(IsRefused("{", 0, "not JSON"));
  EXPECT_TRUE(IsRefused("{}{}", 0, "not JSON"));
  EXPECT_TRUE(IsRefused(std::string("{}\0\0", 4), 0, "not JSON"));
  EXPECT_TRUE(IsRefused("{\"\xff\":{}}", 0, "not JSON"));
  EXPECT_TRUE(IsRefused(R"({"a":1})", 0, "number out of place"));
  EXPECT_TRUE(IsRefused(R"({"a":null})", 0, "null"));
  EXPECT_TRUE(IsRefused(R"({"a":true})", 0, "boolean"));
  EXPECT_TRUE(IsRefused(R"({"a":"x"})", 0, "string out of place"));
  EXPECT_TRUE(IsRefused(R"({"a":[]})", 0, "array out of place"));
  EXPECT_TRUE(IsRefused(R"({"a":{}})", 0, "has no dtype"));
  EXPECT_TRUE(IsRefused(R"({"a":{"b":{}}})", 0, "unknown field"));
  EXPECT_TRUE(IsRefused(R"({"a":{"shape":{"dtype":"F32"}}})", 0, "too deep"));
  EXPECT_TRUE(IsRefused(R"({"__metadata__":{"a":1}})", 0, "number out of place"));
  EXPECT_TRUE(IsRefused("{\"a\":{\"shape\":" + std::string(100000, '['), 0, "array out of place"));
}

TEST(Safetensors, RefusesTensorsWithWrongFields) {
  EXPECT_TRUE(IsRefused(R"({"a":{"dtype":"F32","shape":[1]}})", 4, "has no data_offsets"));
  EXPECT_TRUE(IsRefused(R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})", 4,
                        "unknown type BF16"));
  EXPECT_TRUE(IsRefused(R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", 4, "number"));
  EXPECT_TRUE(
      IsRefused(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "negative"));
  EXPECT_TRUE(
      IsRefused(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "fraction"));
  EXPECT_TRUE(IsRefused(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4, "array"));
  EXPECT_TRUE(IsRefused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "fit"));
  EXPECT_TRUE(
      IsRefused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", 4, "more than two"));
  EXPECT_TRUE(IsRefused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "fit"));
  EXPECT_TRUE(IsRefused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4,
                        "F32[2], which does not fit"));
  EXPECT_TRUE(IsRefused(
      R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4, "2^63"));
  EXPECT_TRUE(
      IsRefused(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0,
                "too large"));
}

TEST(Safetensors, RefusesDuplicates) {
  EXPECT_TRUE(IsRefused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                        8, "tensor \"a\" comes twice"));
  EXPECT_TRUE(IsRefused(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                        4, "two fields \"dtype\""));
}

TEST(Safetensors, EveryByteOfTheDataBelongsToExactlyOneTensor) {
  const auto two = [](int a_begin, int a_end, int b_begin, int b_end) {
    return fmt::format(R"({{"a":{{"dtype":"F32","shape":[{}],"data_offsets":[{},{}]}},)"
                       R"("b":{{"dtype":"F32","shape":[{}],"data_offsets":[{},{}]}}}})",
                       (a_end - a_begin) / 4, a_begin, a_end, (b_end - b_begin) / 4, b_begin,
                       b_end);
  };
  EXPECT_TRUE(Parse(two(0, 8, 8, 12), 12));
  EXPECT_TRUE(Parse(two(8, 12, 0, 8), 12));
  EXPECT_TRUE(Parse(two(0, 8, 8, 8), 8));
  EXPECT_TRUE(Parse(two(8, 8, 0, 8), 8));
  EXPECT_TRUE(IsRefused(two(0, 8, 4, 12), 12, "tensor \"b\" overlaps"));
  EXPECT_TRUE(IsRefused(two(0, 8, 0, 8), 8, "overlaps"));
  EXPECT_TRUE(IsRefused(two(0, 8, 4, 4), 8, "overlaps"));
  EXPECT_TRUE(IsRefused(two(0, 4, 8, 12), 12, "tensor \"b\" leaves a gap"));
  EXPECT_TRUE(IsRefused(two(4, 8, 8, 12), 12, "tensor \"a\" leaves a gap"));
  EXPECT_TRUE(IsRefused(two(0, 8, 8, 12), 8, "take 12 bytes, but the file has 8"));
  EXPECT_TRUE(IsRefused(two(0, 8, 8, 12), 13, "take 12 bytes, but the file has 13"));
}

TEST(Safetensors, RefusesToWriteWhatNobodyCouldRead) {
  const auto code = [](const std::vector<TensorSpec>& tensors) {
    const auto head = EncodeSafetensorsHead(tensors);
    return head ? Code{} : head.error().code;
  };
  EXPECT_EQ(code({{"__metadata__", "F32", {1}}}), Code::kInvalidArgument);
  EXPECT_EQ(code({{"\xff", "F32", {1}}}), Code::kInvalidArgument);
  EXPECT_EQ(code({{std::string(kMaxSafetensorsHeader, 'x'), "F32", {1}}}), Code::kOutOfRange);
}

TEST(Safetensors, TheFirstDifferenceIsNamedWithBothSides) {
  const std::vector<TensorSpec> expected = {{"a", "F32", {2}}, {"b", "F32", {3}}};
  EXPECT_EQ(FirstDifference(expected, std::vector<TensorSpec>{expected[1], expected[0]}),
            std::nullopt);
  EXPECT_EQ(FirstDifference(expected, std::vector<TensorSpec>{expected[1]}),
            "tensor \"a\" (F32[2]) is missing");
  EXPECT_EQ(FirstDifference(expected, std::vector<TensorSpec>{expected[0], {"b", "F32", {1, 3}}}),
            "tensor \"b\" is F32[1,3], but F32[3] is expected");
  EXPECT_EQ(FirstDifference(expected,
                            std::vector<TensorSpec>{expected[0], expected[1], {"c", "I64", {}}}),
            "tensor \"c\" (I64[]) is not expected");
}

}  // namespace
}  // namespace muster
