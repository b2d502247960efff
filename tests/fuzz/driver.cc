// The main of a fuzz target where there is no libFuzzer:
//
//   fuzz_NAME FOLDER --runs N    the seeds, the files of FOLDER, and N inputs that are made from them; MUSTER_SEED makes others
//   fuzz_NAME FILE ...           these files, as after a failure
//   fuzz_NAME --write FOLDER     writes the seeds there
//
// The inputs run in a child. Each lies in memory that both share before it is run, so that whatever the child dies of, its parent
// can keep the input and say how to run it again.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mutator.h"

#ifdef MUSTER_SANITIZED
// An input of some KiB that makes a reader ask for so much is a find. NOLINTNEXTLINE(bugprone-reserved-identifier)
extern "C" const char* __asan_default_options() { return "max_allocation_size_mb=256"; }
#endif

namespace muster::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kLongestSeconds = 30;  // of one input, on a machine that is very busy
constexpr long kMostMemory = 2 << 20;     // KiB of the child

// What the child is doing, for its parent.
struct Shared {
  size_t runs;
  size_t bytes;
  char input[1 << 20];
};

[[noreturn]] void Usage(const char* program) {
  std::fprintf(stderr, "%s: FOLDER --runs N, or FILE ..., or --write FOLDER\n", program);
  std::exit(2);
}

std::vector<std::string> FilesIn(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file()) names.push_back(entry.path());
  }
  std::ranges::sort(names);  // the order decides what is made from them
  return names;
}

std::vector<std::string> Contents(const std::vector<std::string>& files) {
  std::vector<std::string> contents;
  for (const std::string& file : files) {
    Result<std::string> content = ReadFile(file);
    if (!content) std::fprintf(stderr, "%s\n", content.error().ToString().c_str());
    if (!content) std::exit(2);
    contents.push_back(std::move(*content));
  }
  return contents;
}

int Write(const fs::path& folder) {
  fs::create_directories(folder);
  for (const Seed& seed : Seeds()) {
    const Status written = WriteFileAtomically(folder / seed.name, seed.bytes);
    if (!written) std::fprintf(stderr, "%s\n", written.error().ToString().c_str());
    if (!written) return 1;
  }
  return 0;
}

void RunOne(Shared& shared, const std::string& input) {
  shared.bytes = std::min(input.size(), sizeof shared.input);
  std::copy_n(input.data(), shared.bytes, shared.input);
  ++shared.runs;
  ::alarm(kLongestSeconds);
  // Memory of just this size, so that reading past its end is noticed.
  const std::vector<uint8_t> exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  ::alarm(0);
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  MUSTER_CHECK(usage.ru_maxrss < kMostMemory, "{} KiB of memory are in use", usage.ru_maxrss);
}

void RunAll(Shared& shared, const std::vector<std::string>& corpus, size_t runs) {
  for (const std::string& input : corpus) RunOne(shared, input);
  const char* seed = std::getenv("MUSTER_SEED");
  Mutator mutator(seed != nullptr ? std::strtoull(seed, nullptr, 10) : 1, corpus);
  for (size_t i = 0; i < runs; ++i) RunOne(shared, mutator.Next());
}

// Where temporary files cost no disk.
fs::path FastFolder() {
  const fs::path memory = "/dev/shm";
  return ::access(memory.c_str(), W_OK) == 0 ? memory : fs::temp_directory_path();
}

int Report(const char* program, const Shared& shared, int status) {
  const fs::path kept =
      fs::temp_directory_path() /
      fmt::format("{}-{}.input", fs::path(program).filename().string(), ::getpid());
  (void)WriteFileAtomically(kept, {shared.input, shared.bytes});
  const bool late = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
  const std::string how = late ? fmt::format("took more than {} s", kLongestSeconds)
                          : WIFSIGNALED(status)
                              ? fmt::format("died of signal {}", WTERMSIG(status))
                              : fmt::format("exited with code {}", WEXITSTATUS(status));
  std::fprintf(stderr, "fuzz: input %zu %s; run it again: %s %s\n", shared.runs, how.c_str(),
               program, kept.c_str());
  return 1;
}

// Runs `work` in a child with a folder for temporary files that goes with it.
template <typename Work>
int InChild(const char* program, Work work) {
  void* memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  MUSTER_CHECK(memory != MAP_FAILED);
  Shared& shared = *static_cast<Shared*>(memory);
  std::string folder = FastFolder() / "muster-fuzz-run-XXXXXX";
  MUSTER_CHECK(::mkdtemp(folder.data()) != nullptr, "no folder {}", folder);
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = ::fork();
  MUSTER_CHECK(child >= 0, "fork failed");
  if (child == 0) {
    ::setenv("TMPDIR", folder.c_str(), 1);
    log::set_level(log::level::off);  // what is refused is logged, millions of times
    work(shared);
    std::exit(0);  // in which leaks are found
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  if (status != 0) return Report(program, shared, status);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("fuzz: %zu inputs in %.1f s, %.0f a second\n", shared.runs, seconds,
              static_cast<double>(shared.runs) / seconds);
  return 0;
}

int Main(const std::vector<std::string>& arguments, const char* program) {
  if (arguments.empty()) Usage(program);
  if (arguments[0] == "--write" && arguments.size() == 2) return Write(arguments[1]);
  const bool files = !fs::is_directory(arguments[0]);
  if (!files && (arguments.size() != 3 || arguments[1] != "--runs")) Usage(program);
  return InChild(program, [&](Shared& shared) {
    if (files) return RunAll(shared, Contents(arguments), 0);
    std::vector<std::string> corpus = Contents(FilesIn(arguments[0]));
    for (const Seed& seed : Seeds()) corpus.push_back(seed.bytes);
    RunAll(shared, corpus, std::strtoull(arguments[2].c_str(), nullptr, 10));
  });
}

}  // namespace
}  // namespace muster::fuzz

int main(int argc, char** argv) { return muster::fuzz::Main({argv + 1, argv + argc}, argv[0]); }
