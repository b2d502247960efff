#include "launcher/rendezvous/file_text.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace muster {
namespace {

class FileTextTest : public ::testing::Test {
 protected:
  FileTextTest() {
    std::string name = (std::filesystem::temp_directory_path() / "muster-text-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    path_ = folder_ / "w-0.log";
  }
  ~FileTextTest() override { std::filesystem::remove_all(folder_); }

  void Append(const std::string& text) { std::ofstream(path_, std::ios::app) << text; }
  std::unique_ptr<FileText> Open(std::optional<uint64_t> tail) {
    auto text = FileText::Open(path_, tail);
    EXPECT_TRUE(text) << text.error().message;
    return std::move(*text);
  }
  std::string All(std::optional<uint64_t> tail) {
    const auto text = Open(tail);
    std::string all;
    for (auto piece = text->Next(); !piece.end; piece = text->Next()) all += piece.text;
    return all;
  }

  std::filesystem::path folder_;
  std::filesystem::path path_;
};

TEST_F(FileTextTest, GivesTheLastLines) {
  Append("one\ntwo\n\nfour\n");
  EXPECT_EQ(All(std::nullopt), "one\ntwo\n\nfour\n");
  EXPECT_EQ(All(0), "");
  EXPECT_EQ(All(1), "four\n");
  EXPECT_EQ(All(2), "\nfour\n");
  EXPECT_EQ(All(4), "one\ntwo\n\nfour\n");
  EXPECT_EQ(All(UINT64_MAX), "one\ntwo\n\nfour\n");
  Append("half");
  EXPECT_EQ(All(1), "half");
  EXPECT_EQ(All(2), "four\nhalf");
}

TEST_F(FileTextTest, GivesAnEmptyFile) {
  Append("");
  EXPECT_EQ(All(std::nullopt), "");
  EXPECT_EQ(All(3), "");
  Append("\n");
  EXPECT_EQ(All(3), "\n");
}

TEST_F(FileTextTest, EndsWhereTheFileEndedWhenItWasOpened) {
  const std::string large(200 << 10, 'x');
  Append(large);
  const auto text = Open(std::nullopt);
  Append("more");
  std::string all;
  for (auto piece = text->Next(); !piece.end; piece = text->Next()) all += piece.text;
  EXPECT_EQ(all, large);
}

TEST_F(FileTextTest, FollowsUntilTheEndAlsoIntoTheNextFile) {
  Append("one\n");
  const auto text = Open(0);
  bool ended = false;
  text->FollowUntil([&] { return ended; });
  EXPECT_EQ(text->Next().text, "");
  EXPECT_FALSE(text->Next().end);
  Append("two\n");
  EXPECT_EQ(text->Next().text, "two\n");
  Append("three\n");
  std::filesystem::rename(path_, path_.string() + ".1");
  Append("four\n");
  EXPECT_EQ(text->Next().text, "three\n") << "what the older file still had comes first";
  EXPECT_EQ(text->Next().text, "four\n");
  EXPECT_FALSE(text->Next().end);
  Append("five\n");
  ended = true;
  EXPECT_EQ(text->Next().text, "five\n") << "nothing is cut off at the end";
  EXPECT_TRUE(text->Next().end);
}

TEST_F(FileTextTest, SaysWhenThereIsNoFile) {
  const auto text = FileText::Open(path_, std::nullopt);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, Code::kNotFound);
}

}  // namespace
}  // namespace muster
