#include "launcher/verbs/program.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>

namespace muster {
namespace {

namespace fs = std::filesystem;

class ProgramTest : public ::testing::Test {
 protected:
  ProgramTest() {
    std::string pattern = ::testing::TempDir() + "/program-XXXXXX";
    folder_ = fs::path(::mkdtemp(pattern.data())).lexically_normal();
  }
  ~ProgramTest() override { fs::remove_all(folder_); }

  std::string File(const std::string& name, const std::string& content, mode_t mode = 0755) {
    const fs::path path = folder_ / name;
    std::ofstream(path) << content;
    ::chmod(path.c_str(), mode);
    return path.string();
  }
  Result<fs::path> Find(const std::string& word) {
    return FindProgram(word, "/usr/bin:/bin", folder_);
  }

  fs::path folder_;
};

TEST_F(ProgramTest, FindsAProgramByPathInPathAndBesideTheLauncher) {
  EXPECT_EQ(Find("/bin/sh").value(), "/bin/sh");
  EXPECT_EQ(Find("env").value(), "/usr/bin/env");
  const std::string own = File("train-digits", "#!/bin/sh\n");
  EXPECT_EQ(Find("train-digits").value(), own);
  EXPECT_EQ(Find(own).value(), own);
}

TEST_F(ProgramTest, SuggestsTheFileThatWasMeant) {
  File("train", "#!/bin/sh\n");
  const auto found = Find((folder_ / "trian").string());
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().message, (folder_ / "trian").string() + ": no such file");
  EXPECT_EQ(found.error().hint, "did you mean " + (folder_ / "train").string() + "?");
  EXPECT_EQ(Find("trian").error().hint, "did you mean train?");
}

TEST_F(ProgramTest, RefusesWhatCannotBeExecuted) {
  const auto cause = [&](const std::string& word) { return Find(word).error().message; };
  EXPECT_EQ(cause(folder_.string()), folder_.string() + " is a folder, not a program");
  const std::string plain = File("plain", "#!/bin/sh\n", 0644);
  EXPECT_EQ(cause(plain), plain + " is not executable");
  const std::string text = File("text", "just text\n");
  EXPECT_NE(cause(text).find("neither an ELF file nor a script"), std::string::npos);
  const std::string empty = File("empty", "");
  EXPECT_NE(cause(empty).find("neither an ELF file nor a script"), std::string::npos);
  const std::string script = File("script", "#!/no/such/interpreter -x\n");
  EXPECT_EQ(cause(script),
            script + ": its first line names /no/such/interpreter, which is not there");
  const std::string elf = File("elf", std::string("\x7f"
                                                  "ELF") +
                                          std::string(100, '\1'));
  EXPECT_EQ(cause(elf), elf + " is built for another kind of machine");
  EXPECT_EQ(Find("").error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace muster
