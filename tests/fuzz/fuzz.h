// Fuzz: what a fuzz target is, and what the targets share: scripts to read from an input and to write into a seed, a folder for
// what must be a file.
//
// A target is NAME_fuzz.cc with LLVMFuzzerTestOneInput and Seeds. Whatever an input does, nothing may crash, hang, take memory
// without bounds or trip a sanitizer; what else is promised, a target asserts by MUSTER_CHECK. It keeps nothing from one input
// to the next, so that one that fails fails alone.
//
// Threading: none; a target that starts threads ends them before it returns.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/base/status.h"

// Runs one input. libFuzzer's name; without libFuzzer, driver.cc calls it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace muster::fuzz {

// An input that the real encoders have made.
struct Seed {
  std::string name;  // of a file
  std::string bytes;
};

// Every target defines it. Equal each time.
std::vector<Seed> Seeds();

// Reads an input as steps and their arguments. After the end there are only zeros.
class Script {
 public:
  explicit Script(std::string_view bytes) : bytes_(bytes) {}

  bool AtEnd() const { return bytes_.empty(); }

  template <typename T>
  T Number() {
    T number{};
    const size_t bytes = std::min(sizeof(T), bytes_.size());
    if (bytes > 0) std::memcpy(&number, bytes_.data(), bytes);
    bytes_.remove_prefix(bytes);
    return number;
  }

  // What follows as 2 bytes of length and so many bytes, or as many as there are.
  std::string_view Bytes() {
    const std::string_view bytes = bytes_.substr(0, Number<uint16_t>());
    bytes_.remove_prefix(bytes.size());
    return bytes;
  }

  std::string_view Rest() { return std::exchange(bytes_, {}); }

 private:
  std::string_view bytes_;
};

// Writes what Script reads.
class ScriptWriter {
 public:
  template <typename T>
  ScriptWriter& Number(T number) {
    bytes_.append(reinterpret_cast<const char*>(&number), sizeof number);
    return *this;
  }
  ScriptWriter& Bytes(std::string_view bytes) {
    MUSTER_CHECK(bytes.size() <= UINT16_MAX);
    Number(static_cast<uint16_t>(bytes.size()));
    return Rest(bytes);
  }
  ScriptWriter& Rest(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// What every refusal must be: one of the codes, and a sentence.
inline void CheckError(const Error& error) {
  MUSTER_CHECK(!CodeName(error.code).empty() && !error.message.empty(), "code {}",
               static_cast<int>(error.code));
}

// An empty folder of this process below $TMPDIR, made at the first call and removed at exit.
inline const std::filesystem::path& ScratchFolder() {
  struct Folder {
    Folder() {
      std::string pattern = std::filesystem::temp_directory_path() / "muster-fuzz-XXXXXX";
      MUSTER_CHECK(::mkdtemp(pattern.data()) != nullptr, "no folder {}", pattern);
      path = pattern;
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::filesystem::path path;
  };
  static const Folder folder;
  return folder.path;
}

}  // namespace muster::fuzz
