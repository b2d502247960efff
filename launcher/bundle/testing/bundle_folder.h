// BundleFolder: a folder for tests, with files that make a bundle.
//
// Threading: none. Ownership: the folder goes with it.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "launcher/bundle/local_bundle.h"
#include "runtime/base/files.h"

namespace muster {

class BundleFolder {
 public:
  BundleFolder() {
    std::string name = ::testing::TempDir() + "muster-bundle-XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  ~BundleFolder() { std::filesystem::remove_all(root_); }
  BundleFolder(const BundleFolder&) = delete;
  BundleFolder& operator=(const BundleFolder&) = delete;

  const std::filesystem::path& root() const { return root_; }

  std::filesystem::path Write(const std::string& name, const std::string& content,
                              unsigned mode = 0644) const {
    std::filesystem::create_directories((root_ / name).parent_path());
    EXPECT_TRUE(WriteFileAtomically(root_ / name, content, false, mode));
    return root_ / name;
  }

  // A program of three chunks, and data in a folder.
  LocalBundle Make() const {
    std::string program;
    for (size_t i = 0; program.size() < 2 * kMaxChunkBytes + 5; ++i)
      program += std::to_string(i * i);
    const auto source = Write("train", program, 0755);
    Write("data/a.bin", "one");
    Write("data/deep/b.bin", "two");
    auto bundle = LocalBundle::Create({{source, "bin/train"}, {root_ / "data", "data"}});
    EXPECT_TRUE(bundle) << bundle.error().message;
    return *bundle;
  }

 private:
  std::filesystem::path root_;
};

}  // namespace muster
