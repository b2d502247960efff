// What nvcc has made of a kernel, run on the CPU, so that it is tested where there is no GPU: PTX, which a driver compiles for the GPUs
// that a fat binary has nothing else for. It knows the instructions that our kernels have, and rounds as they do; where a program has
// another one, it says so and ends the process.
// Source: PTX ISA 9.0, https://docs.nvidia.com/cuda/parallel-thread-execution.
//
// Threading: a kernel may be run by several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace muster::ptx {

// One of Block::kThreads, which run one after the other from barrier to barrier.
struct Thread {
  std::vector<uint64_t> registers;
  size_t next = 0;  // instruction
  uint32_t index = 0;
  uint32_t block = 0;
  const std::byte* arguments = nullptr;
  std::byte* shared = nullptr;
};

struct Instruction {
  enum class Kind { kPlain, kBranch, kMeeting, kEnd };
  Kind kind = Kind::kPlain;
  std::function<bool(const Thread&)> guard = {};  // empty: always
  std::function<void(Thread&)> act = {};          // kPlain
  std::function<void(std::vector<Thread>&)> meet =
      {};                  // kMeeting: when all threads of the block are here
  std::string label = {};  // kBranch
  size_t target = 0;       // kBranch
  std::string text = {};
};

struct Kernel {
  std::string name;
  size_t argument_bytes = 0;
  size_t shared_bytes = 0;
  size_t registers = 0;
  std::vector<Instruction> instructions;

  // Its threads begin in another order after every barrier, and in every other block, so that it matters if one is missing.
  void Run(size_t block, const void* arguments) const;
};

// The kernels of a program, by name.
std::map<std::string, Kernel> Parse(std::string_view text);

// The PTX in a fat binary that was made with --no-compress; empty if there is none.
std::string_view TextIn(const void* image);

}  // namespace muster::ptx
