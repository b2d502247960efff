// Random job files: valid ones are read as what they were made from, and no bytes at all make the reader crash or hang.
// MUSTER_SEED replays a run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "launcher/jobfile/job_file.h"
#include "runtime/base/time.h"

namespace muster {
namespace {

uint64_t Seed() {
  const char* seed = std::getenv("MUSTER_SEED");
  return seed != nullptr ? std::strtoull(seed, nullptr, 10) : std::random_device{}();
}

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  int Int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  bool Coin() { return Int(0, 1) == 1; }

  template <typename T>
  T One(std::vector<T> values) {
    return values[static_cast<size_t>(Int(0, static_cast<int>(values.size()) - 1))];
  }

  std::string Name() { return fmt::format("n{}", Int(0, 1 << 20)); }

  // Anything that a program may be given.
  std::string Text() {
    std::string text;
    for (int i = Int(0, 6); i > 0; --i) {
      text += One<std::string>({"a",    "no", "010", "~", " ", "\"", "'",  "\\",   "\n",  "\t", "#",
                                ": ",   "- ", "{",   "]", ",", "é",  "😀", "&",    "*",   "!",  "%",
                                "\x7f", "|",  ">",   "@", "`", "?",  "\r", "\x01", "0x1", "1e3"});
    }
    return text;
  }

  WorkerRange Range(int lowest) {
    const int max = Int(1, 40);
    return {Coin() ? max : Int(std::min(lowest, max), max), max};
  }

  Pool MakePool(int number) {
    Pool pool;
    pool.name = fmt::format("pool-{}", number);
    pool.device_count = Int(1, 4);
    const WorkerRange pods = Range(number == 0 ? 1 : 0);
    pool.workers = {pods.min * pool.device_count, pods.max * pool.device_count};
    pool.gpu = Coin();
    for (int i = Int(0, 2); i > 0; --i) pool.instance_types.push_back(Name());
    for (int i = Int(0, 2); i > 0; --i) pool.node_selector[Name()] = Coin() ? Name() : "";
    pool.capacity = One<std::string>({"on-demand", "spot", "any"});
    if (Coin()) pool.priority_class = Name();
    const int mode = Int(0, pool.priority_class.empty() ? 1 : 2);
    pool.growth = {static_cast<Growth::Mode>(mode), mode == 1 ? Int(1, 4096) : 0};
    pool.drain = Coin();
    if (Coin()) pool.cpu = One<std::string>({"1", "0.5", "250m"});
    if (Coin()) pool.memory = One<std::string>({"1", "512Mi", "1.5G"});
    return pool;
  }

  JobFile MakeJob() {
    JobFile job;
    if (Coin()) job.name = Name();
    if (Coin()) job.platform = One<std::string>({"local", "kubernetes"});
    if (Coin()) {
      job.program = ProgramRequest{fmt::format("p{}", Text()), {}};
      for (int i = Int(0, 4); i > 0; --i) job.program->args.push_back(Text());
    }
    if (Coin()) job.image = fmt::format("registry.example/{}", Name());
    for (int i = Int(0, 3); i > 0; --i) job.environment[fmt::format("V_{}", Name())] = Text();
    if (Coin()) {
      job.workers = Range(1);
    } else {
      for (int i = 0, count = Int(0, 3); i < count; ++i) job.pools.push_back(MakePool(i));
    }
    if (Coin()) job.collectives = One<std::string>({"auto", "host", "nccl", "mpi"});
    if (Coin()) job.device = One<std::string>({"auto", "cpu", "cuda", "cuda:1"});
    if (Coin()) job.reduce = One<std::string>({"exact", "float"});
    if (Coin()) {
      job.checkpoint = CheckpointRequest{fmt::format("d{}", Text()), {}, {}};
      if (Coin()) job.checkpoint->every_steps = Int(1, 1 << 30);
      if (Coin()) job.checkpoint->resume = Coin();
    }
    if (Coin()) job.heartbeat_timeout_ms = Int(100, 600'000);
    if (Coin()) job.step_timeout_ms = Int(100, 86'400'000);
    if (Coin()) job.start_timeout_ms = Int(100, 86'400'000);
    for (int i = Int(0, 3); i > 0; --i) job.files.push_back(fmt::format("f{}", Text()));
    return job;
  }

  // The lines of `json` shifted, so that the same job stands elsewhere.
  std::string Mangled(std::string text) {
    for (int i = Int(1, 8); i > 0 && !text.empty(); --i) {
      const auto at = static_cast<size_t>(Int(0, static_cast<int>(text.size()) - 1));
      switch (Int(0, 3)) {
        case 0:
          text[at] = static_cast<char>(Int(0, 255));
          break;
        case 1:
          text.erase(at, static_cast<size_t>(Int(1, 5)));
          break;
        case 2:
          text.insert(at, One<std::string>({"\n", "  ", "- ", ": ", "{", "[", "'", "\"", "&a ",
                                            "*a", "!!x ", "? ", "|\n", "---\n", "%T", "\t", "#"}));
          break;
        default:
          text.insert(at, text.substr(at, static_cast<size_t>(Int(1, 60))));
      }
    }
    return text;
  }

  std::string Noise() {
    std::string text;
    constexpr std::string_view kCommon = "{}[]:,-?&*!|>'\"%@`#\n \tab01~<=\\.";
    for (int i = Int(0, 120); i > 0; --i) {
      text += Int(0, 30) == 0
                  ? static_cast<char>(Int(0, 255))
                  : kCommon[static_cast<size_t>(Int(0, static_cast<int>(kCommon.size()) - 1))];
    }
    return text;
  }

 private:
  std::mt19937_64 random_;
};

constexpr std::string_view kBlockStyle = R"(name: demo
program:
  path: ./train
  args:
    - --steps
    - "4 00"
environment: {A: no, B: 'it''s'}
pools:
  - name: a
    workers: 2:4
    device: {kind: gpu, count: 2}
    growth: step 2
  - {name: b, workers: 0:3}
checkpoint:
  dir: c
  every_steps: 10
)";

TEST(RandomJobFile, IsReadAsWhatItWasMadeFrom) {
  const uint64_t seed = Seed();
  Generator generator(seed);
  for (int i = 0; i < 2000; ++i) {
    const JobFile job = generator.MakeJob();
    const std::string text = ToJson(job);
    const auto read = ParseJobFile(text);
    ASSERT_TRUE(read) << text << FormatErrors("f", read.error()) << "\nMUSTER_SEED=" << seed;
    ASSERT_EQ(*read, job) << text << ToJson(*read) << "\nMUSTER_SEED=" << seed;
  }
}

TEST(RandomJobFile, OfAnyBytesEndsInAJobOrInErrorsWithinTheText) {
  const uint64_t seed = Seed();
  Generator generator(seed);
  const TimePoint end = MonotonicNow() + std::chrono::seconds(1);
  for (int i = 0; MonotonicNow() < end; ++i) {
    const std::string text = i % 3 == 0   ? generator.Noise()
                             : i % 3 == 1 ? generator.Mangled(std::string(kBlockStyle))
                                          : generator.Mangled(ToJson(generator.MakeJob()));
    const auto job = ParseJobFile(text);
    if (job) {
      ASSERT_TRUE(ParseJobFile(ToJson(*job))) << text << "\nMUSTER_SEED=" << seed;
      continue;
    }
    ASSERT_FALSE(job.error().empty()) << text;
    const auto lines = std::count(text.begin(), text.end(), '\n') + 1;
    for (const FileError& error : job.error()) {
      ASSERT_TRUE(error.at.line >= 1 && error.at.line <= lines && error.at.column >= 1)
          << error.at.line << ":" << error.at.column << " " << error.message << "\n"
          << text << "\nMUSTER_SEED=" << seed;
      ASSERT_LT(error.message.size(), 600U) << error.message;
    }
  }
}

}  // namespace
}  // namespace muster
