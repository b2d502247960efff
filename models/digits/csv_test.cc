#include "models/digits/csv.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

namespace muster {
namespace {

// A row whose 64 pixels are `pixel`, with its line end.
std::string Row(const std::string& pixel, const std::string& label,
                const std::string& line_end = "\n") {
  std::string row;
  for (int i = 0; i < 64; ++i) row += pixel + ",";
  return row + label + line_end;
}

std::string Problem(const std::string& text) {
  const auto samples = ParseDigitsCsv(text, "digits.csv");
  if (samples) return "accepted";
  EXPECT_EQ(samples.error().code, Code::kDataLoss);
  return samples.error().ToString();
}

TEST(Csv, ReadsPixelsAndLabels) {
  const auto samples = ParseDigitsCsv(Row("0", "9") + Row("16", "0") + Row("4", "3"), "digits.csv");
  ASSERT_TRUE(samples) << samples.error().ToString();
  EXPECT_EQ(samples->width, 64);
  EXPECT_EQ(samples->labels, (std::vector<int32_t>{9, 0, 3}));
  ASSERT_EQ(samples->pixels.size(), 3u * 64);
  EXPECT_EQ(samples->pixels[63], 0.0f);
  EXPECT_EQ(samples->pixels[64], 1.0f);
  EXPECT_EQ(samples->pixels[128], 0.25f);
}

TEST(Csv, AcceptsWindowsLineEndsAndAMissingLastOne) {
  const auto samples = ParseDigitsCsv(Row("1", "2", "\r\n") + Row("1", "3", ""), "digits.csv");
  ASSERT_TRUE(samples) << samples.error().ToString();
  EXPECT_EQ(samples->labels, (std::vector<int32_t>{2, 3}));
}

TEST(Csv, ReadsNothingFromAnEmptyText) {
  const auto samples = ParseDigitsCsv("", "digits.csv");
  ASSERT_TRUE(samples);
  EXPECT_TRUE(samples->labels.empty());
}

TEST(Csv, RefusesAShortOrLongRow) {
  EXPECT_EQ(Problem(Row("1", "2") + "1,2,3\n"),
            "digits.csv: line 2: expected 65 values (64 pixels and a label), found 3");
  EXPECT_EQ(Problem(Row("1", "2,3")),
            "digits.csv: line 1: expected 65 values (64 pixels and a label), found 66");
  EXPECT_EQ(Problem(Row("1", "2") + "\n" + Row("1", "2")),
            "digits.csv: line 2: expected 65 values (64 pixels and a label), found 0");
}

TEST(Csv, RefusesWhatIsNotAPixel) {
  for (const char* text : {"x", "", " 1", "1.5", "-1", "17", "99999999999999999999", "nan"}) {
    std::string row = Row("0", "5");
    row.replace(2 * 2, 1, text);  // the third value
    EXPECT_EQ(
        Problem(row),
        fmt::format("digits.csv: line 1, column 3: expected a pixel from 0 to 16, found \"{}\"",
                    text));
  }
}

TEST(Csv, RefusesALabelOutOfRange) {
  for (const char* text : {"10", "-1", "", "a"}) {
    EXPECT_EQ(
        Problem(Row("0", text)),
        fmt::format("digits.csv: line 1, column 65: expected a label from 0 to 9, found \"{}\"",
                    text));
  }
}

}  // namespace
}  // namespace muster
