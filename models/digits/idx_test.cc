#include "models/digits/idx.h"

#include <gtest/gtest.h>

#include <string>

namespace muster {
namespace {

std::string BigEndian(uint32_t number) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(number >> shift & 0xff);
  return bytes;
}

std::string Images(uint32_t count, uint32_t rows, uint32_t columns, const std::string& pixels) {
  return BigEndian(0x803) + BigEndian(count) + BigEndian(rows) + BigEndian(columns) + pixels;
}

std::string Labels(uint32_t count, const std::string& labels) {
  return BigEndian(0x801) + BigEndian(count) + labels;
}

// The message for a file that must be refused.
template <typename T>
std::string Problem(const Result<T>& result) {
  if (result) return "accepted";
  EXPECT_EQ(result.error().code, Code::kDataLoss);
  return result.error().ToString();
}

std::string ImagesProblem(const std::string& bytes) {
  return Problem(ParseIdxImages(bytes, "images"));
}

std::string LabelsProblem(const std::string& bytes) {
  return Problem(ParseIdxLabels(bytes, "labels"));
}

TEST(Idx, ReadsImages) {
  const auto images = ParseIdxImages(Images(2, 1, 2, std::string("\x00\xff\x33\x01", 4)), "images");
  ASSERT_TRUE(images) << images.error().ToString();
  EXPECT_EQ(images->count, 2);
  EXPECT_EQ(images->width, 2);
  EXPECT_EQ(images->pixels, (std::vector<float>{0, 1, 51 / 255.0f, 1 / 255.0f}));
}

TEST(Idx, ReadsLabels) {
  const auto labels = ParseIdxLabels(Labels(3, std::string("\x00\x09\x05", 3)), "labels");
  ASSERT_TRUE(labels) << labels.error().ToString();
  EXPECT_EQ(*labels, (std::vector<int32_t>{0, 9, 5}));
}

TEST(Idx, RefusesAnotherMagicNumber) {
  EXPECT_EQ(ImagesProblem(Labels(1, "\x01")),
            "images: offset 0: expected magic number 0x00000803 (images), found 0x00000801");
  EXPECT_EQ(LabelsProblem(Images(1, 1, 1, "\x01")),
            "labels: offset 0: expected magic number 0x00000801 (labels), found 0x00000803");
}

TEST(Idx, RefusesATruncatedHeader) {
  EXPECT_EQ(ImagesProblem(""), "images: offset 0: expected 4 bytes of magic number, found 0");
  EXPECT_EQ(ImagesProblem(Images(1, 1, 1, "").substr(0, 6)),
            "images: offset 4: expected 4 bytes of number of images, found 2");
  EXPECT_EQ(ImagesProblem(Images(1, 1, 1, "").substr(0, 15)),
            "images: offset 12: expected 4 bytes of number of columns, found 3");
  EXPECT_EQ(LabelsProblem(Labels(1, "").substr(0, 4)),
            "labels: offset 4: expected 4 bytes of number of labels, found 0");
}

TEST(Idx, RefusesTruncatedContentAndContentTooMuch) {
  EXPECT_EQ(ImagesProblem(Images(2, 2, 2, "1234567")),
            "images: offset 16: expected 8 bytes of pixels, found 7");
  EXPECT_EQ(ImagesProblem(Images(2, 2, 2, "123456789")),
            "images: offset 16: expected 8 bytes of pixels, found 9");
  EXPECT_EQ(LabelsProblem(Labels(2, "\x01")),
            "labels: offset 8: expected 2 bytes of labels, found 1");
}

// The largest header must neither overflow nor make the reader reserve what the file does not hold.
TEST(Idx, RefusesAHeaderThatPromisesTooMuch) {
  EXPECT_EQ(ImagesProblem(Images(0x7fffffff, 4096, 4096, "12")),
            "images: offset 16: expected 36028797002186752 bytes of pixels, found 2");
  EXPECT_EQ(ImagesProblem(Images(1, 0xffffffff, 1, "12")),
            "images: offset 8: expected a number of rows from 1 to 4096, found 4294967295");
}

TEST(Idx, RefusesAnEmptyExtent) {
  EXPECT_EQ(ImagesProblem(Images(0, 28, 28, "")),
            "images: offset 4: expected a number of images from 1 to 2147483647, found 0");
  EXPECT_EQ(LabelsProblem(Labels(0, "")),
            "labels: offset 4: expected a number of labels from 1 to 2147483647, found 0");
}

TEST(Idx, RefusesALabelOutOfRange) {
  EXPECT_EQ(LabelsProblem(Labels(3, "\x01\x02\x0a")),
            "labels: offset 10: expected a label from 0 to 9, found 10");
  EXPECT_EQ(LabelsProblem(Labels(1, "\xff")),
            "labels: offset 8: expected a label from 0 to 9, found 255");
}

TEST(Idx, RecognizesACompressedFile) {
  EXPECT_EQ(ImagesProblem("\x1f\x8b\x08"), "images is compressed (unpack it with gunzip)");
}

TEST(Idx, RefusesDifferentCountsOfImagesAndLabels) {
  auto images = ParseIdxImages(Images(2, 1, 1, "ab"), "images");
  ASSERT_TRUE(images);
  EXPECT_EQ(Problem(JoinIdx(std::move(*images), "images", {1, 2, 3}, "labels")),
            "images holds 2 images, but labels holds 3 labels");
}

}  // namespace
}  // namespace muster
