#include "models/digits/data.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "runtime/base/files.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

// A folder of its own for every test, gone afterwards.
class DataFolder : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "digits-data-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Put(const std::string& name, const std::string& content) {
    ASSERT_TRUE(WriteFileAtomically(folder_ / name, content).has_value());
  }

  // The four files of a tiny MNIST, `train` and `test` images of 2 x 1 pixels, with `separator` before "idx".
  void PutMnist(const std::string& separator, int train = 3, int test = 2) {
    PutPart("train", separator, train);
    PutPart("t10k", separator, test);
  }

  void PutPart(const std::string& part, const std::string& separator, int count) {
    const std::string extent = {0, 0, 0, static_cast<char>(count)};
    const std::string size = {0, 0, 0, 2, 0, 0, 0, 1};
    Put(part + "-images" + separator + "idx3-ubyte",
        std::string({0, 0, 8, 3}) + extent + size + std::string(2 * count, '\x33'));
    Put(part + "-labels" + separator + "idx1-ubyte",
        std::string({0, 0, 8, 1}) + extent + std::string(count, '\x07'));
  }

  // The message for a folder that must be refused, with "DIR" for its path.
  std::string Problem() { return Problem(folder_); }
  std::string Problem(const fs::path& path) {
    const auto data = LoadDigits(path);
    if (data) return "accepted";
    std::string message = data.error().ToString();
    for (size_t at; (at = message.find(folder_.string())) != std::string::npos;) {
      message.replace(at, folder_.string().size(), "DIR");
    }
    return message;
  }

  fs::path folder_;
};

constexpr char kWhatToGive[] =
    " (--data takes a folder with digits.csv, or with the four files of MNIST)";

std::string CsvRows(int count) {
  std::string text;
  for (int row = 0; row < count; ++row) {
    for (int i = 0; i < 64; ++i) text += fmt::format("{},", i == 0 ? row : 0);
    text += fmt::format("{}\n", row % 10);
  }
  return text;
}

Batch ReadAll(const Dataset& dataset) {
  std::vector<int64_t> rows(dataset.size());
  std::iota(rows.begin(), rows.end(), 0);
  Batch batch;
  EXPECT_TRUE(dataset.Read(rows, batch).has_value());
  return batch;
}

TEST(BuiltInDigits, AreTheWholeDataSetWithAFifthHeldOut) {
  const auto data = LoadDigits("");
  ASSERT_TRUE(data) << data.error().ToString();
  EXPECT_EQ(data->train.size(), 1438);
  EXPECT_EQ(data->test.size(), 359);
  EXPECT_EQ(data->train.features(), 64);
  EXPECT_EQ(data->train.labels(), 1);
}

// The counts of the digits in the UCI test part, and every digit among the tests.
TEST(BuiltInDigits, HoldEveryDigitInBothParts) {
  const auto data = LoadDigits("");
  ASSERT_TRUE(data);
  std::vector<int> train(10);
  std::vector<int> test(10);
  for (int32_t label : ReadAll(data->train).labels) ++train[label];
  for (int32_t label : ReadAll(data->test).labels) ++test[label];
  const std::vector<int> all = {178, 182, 177, 183, 181, 182, 181, 179, 174, 180};
  for (int digit = 0; digit < 10; ++digit) {
    EXPECT_EQ(train[digit] + test[digit], all[digit]);
    EXPECT_GE(test[digit], 20);
  }
}

TEST_F(DataFolder, SplitsACsvIntoPartsThatShareNoRow) {
  Put("digits.csv", CsvRows(17));
  const auto data = LoadDigits(folder_);
  ASSERT_TRUE(data) << data.error().ToString();
  EXPECT_EQ(data->train.size(), 14);
  EXPECT_EQ(data->test.size(), 3);
  std::multiset<float> first_pixels;  // the row numbers
  for (const Dataset* part : std::vector<const Dataset*>{&data->train, &data->test}) {
    const Batch batch = ReadAll(*part);
    for (int64_t row = 0; row < batch.size; ++row) {
      first_pixels.insert(batch.features[row * 64] * 16);
      EXPECT_EQ(batch.labels[row], static_cast<int>(batch.features[row * 64] * 16) % 10);
    }
  }
  std::multiset<float> all_rows;
  for (int row = 0; row < 17; ++row) all_rows.insert(static_cast<float>(row));
  EXPECT_EQ(first_pixels, all_rows);
}

TEST_F(DataFolder, ReadsMnistWithDashesAndWithDots) {
  for (const char* separator : {"-", "."}) {
    PutMnist(separator);
    const auto data = LoadDigits(folder_);
    ASSERT_TRUE(data) << data.error().ToString();
    EXPECT_EQ(data->train.size(), 3);
    EXPECT_EQ(data->test.size(), 2);
    EXPECT_EQ(data->train.features(), 2);
    EXPECT_EQ(ReadAll(data->test).labels, (std::vector<int32_t>{7, 7}));
    for (const auto& entry : fs::directory_iterator(folder_)) fs::remove(entry);
  }
}

TEST_F(DataFolder, NamesAMissingFolder) {
  EXPECT_EQ(Problem(folder_ / "nowhere"), "--data DIR/nowhere: No such file or directory");
}

TEST_F(DataFolder, RefusesAFileInPlaceOfAFolder) {
  Put("digits.csv", CsvRows(10));
  EXPECT_EQ(Problem(folder_ / "digits.csv"), "--data DIR/digits.csv: not a folder");
}

TEST_F(DataFolder, SaysWhatAnEmptyFolderShouldHold) {
  EXPECT_EQ(Problem(), std::string("DIR/train-images-idx3-ubyte is not there") + kWhatToGive);
}

TEST_F(DataFolder, NamesTheOneFileOfMnistThatIsMissing) {
  PutMnist("-");
  fs::remove(folder_ / "t10k-labels-idx1-ubyte");
  EXPECT_EQ(Problem(), std::string("DIR/t10k-labels-idx1-ubyte is not there") + kWhatToGive);
}

TEST_F(DataFolder, SeesThatMnistIsStillCompressed) {
  Put("train-images-idx3-ubyte.gz", "");
  EXPECT_EQ(
      Problem(),
      "DIR/train-images-idx3-ubyte is not there, but train-images-idx3-ubyte.gz is (unpack it "
      "with gunzip)");
}

TEST_F(DataFolder, NamesAFileThatCannotBeRead) {
  fs::create_directory(folder_ / "digits.csv");  // unreadable even for root
  const std::string problem = Problem();
  EXPECT_NE(problem.find("DIR/digits.csv"), std::string::npos) << problem;
}

TEST_F(DataFolder, NamesFileAndLineOfABadRow) {
  Put("digits.csv", CsvRows(10) + "1,2\n");
  EXPECT_EQ(Problem(),
            "DIR/digits.csv: line 11: expected 65 values (64 pixels and a label), found 2");
}

TEST_F(DataFolder, NamesFileAndOffsetOfATruncatedFile) {
  PutMnist("-");
  Put("t10k-images-idx3-ubyte", std::string({0, 0, 8, 3, 0, 0}));
  EXPECT_EQ(Problem(),
            "DIR/t10k-images-idx3-ubyte: offset 4: expected 4 bytes of number of images, found 2");
}

TEST_F(DataFolder, RefusesImagesAndLabelsOfDifferentCounts) {
  PutMnist("-");
  Put("train-labels-idx1-ubyte", std::string({0, 0, 8, 1, 0, 0, 0, 1, 5}));
  EXPECT_EQ(Problem(),
            "DIR/train-images-idx3-ubyte holds 3 images, but DIR/train-labels-idx1-ubyte holds 1 "
            "labels");
}

TEST_F(DataFolder, RefusesTestImagesOfAnotherSize) {
  PutMnist("-");
  Put("t10k-images-idx3-ubyte",
      std::string({0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 5, 5}));
  EXPECT_EQ(Problem(), "DIR: training images have 2 pixels, test images 1");
}

TEST_F(DataFolder, RefusesACsvThatIsTooSmallToSplit) {
  Put("digits.csv", "");
  EXPECT_EQ(Problem(), "DIR/digits.csv: expected at least 5 rows, found 0");
}

}  // namespace
}  // namespace muster
