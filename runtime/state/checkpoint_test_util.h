// For the tests of checkpoints: a folder that goes away, a state that is a function of its step, work in a child process.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "runtime/state/checkpoint.h"

namespace muster {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = testing::TempDir() + "checkpoint-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }
  // The names in it, sorted.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      names.push_back(entry.path().filename().string());
    }
    std::ranges::sort(names);
    return names;
  }

 private:
  std::filesystem::path path_;
};

inline CheckpointFacts SomeFacts() {
  return {.seed = 0xfedcba9876543210,
          .micro_batches = 16,
          .batch_size = 8,
          .dataset_size = 1797,
          .reduce = "exact",
          .optimizer = "adamw beta1=0.9 \"quoted\""};
}

// 16-bit exponents lie between the floats, so that the order of the file differs from that of the state.
inline std::vector<TensorSpec> SomeTensors() {
  return {{"parameter/fc.weight", "F32", {5, 7}},
          {"exact/exponents", "I16", {3}},
          {"parameter/\"b\u00e4r\"", "F32", {}},
          {"empty", "F32", {0, 3}},
          {"counter", "I64", {2}}};
}

// Every bit of every tensor and counter depends on `step`; some floats are NaNs and denormals.
inline State StateAt(uint64_t step, std::vector<TensorSpec> tensors = SomeTensors()) {
  State state(std::move(tensors));
  for (size_t i = 0; i < state.tensors().size(); ++i) {
    uint64_t mixed = step * 0x9e3779b97f4a7c15 + i;
    for (std::byte& byte : state.tensor_bytes(i)) {
      mixed = mixed * 6364136223846793005 + 1442695040888963407;
      byte = static_cast<std::byte>(mixed >> 56);
    }
  }
  state.header() = {.step = step,
                    .samples_consumed = step * 128 + (uint64_t{1} << 60),
                    .misses = step / 2,
                    .skipped = 3,
                    .loss = 1.0 / static_cast<double>(step + 3)};
  state.header().reserved[10] = ~step;
  state.set_all_page_versions(state.position());
  return state;
}

inline bool SameBits(const State& a, const State& b) {
  return std::ranges::equal(a.image(), b.image());
}

inline std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void Overwrite(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

// In place, because rewriting a file thousands of times costs the disk much more.
inline void FlipBits(const std::filesystem::path& path, size_t at, int mask) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const int byte = file.seekg(static_cast<std::streamoff>(at)).get();
  file.seekp(static_cast<std::streamoff>(at)).put(static_cast<char>(byte ^ mask));
}

inline std::filesystem::path StepFolder(const TemporaryFolder& folder, uint64_t step) {
  return folder.path() / fmt::format("step-{:012}", step);
}

// Runs `work` in a forked child and returns what it returns, or how the child ended.
inline std::string InChild(const std::function<std::string()>& work) {
  int ends[2];
  if (::pipe(ends) != 0) return "no pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string text = work();
    const bool told = ::write(ends[1], text.data(), text.size()) >= 0;
    ::_exit(told ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<size_t>(got));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? text : fmt::format("killed by signal {}", WTERMSIG(status));
}

}  // namespace muster
