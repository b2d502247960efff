#include "runtime/train/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cxxopts.hpp>
#include <filesystem>
#include <limits>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/check.h"

namespace muster {
namespace {

// The values that a whole-number option may have; shared by Validate() and the flags.
struct Range {
  std::string_view flag;
  uint64_t low;
  uint64_t high;
};

constexpr Range kSteps{"--steps", 1, 1'000'000'000'000};
constexpr Range kSeed{"--seed", 0, std::numeric_limits<uint64_t>::max()};
constexpr Range kMicroBatches{"--micro-batches", 1, 65'536};
constexpr Range kBatchSize{"--batch-size", 1, 1'048'576};

template <typename Integer>
Status CheckRange(const Range& range, Integer value) {
  if (std::cmp_less(value, range.low) || std::cmp_greater(value, range.high)) {
    return Err(Code::kInvalidArgument, "{} must be from {} to {}, not {}", range.flag, range.low,
               range.high, value);
  }
  return {};
}

// Positions in the stream of samples are 64-bit numbers; half of them are enough for everyone.
Status CheckSampleCount(const TrainOptions& options) {
  const uint64_t samples_per_step =
      static_cast<uint64_t>(options.micro_batches) * static_cast<uint64_t>(options.batch_size);
  constexpr uint64_t kMostSamples = std::numeric_limits<int64_t>::max();
  if (options.steps <= kMostSamples / samples_per_step) return {};
  return Err(
      Code::kInvalidArgument,
      "--steps x --micro-batches x --batch-size must be at most {} samples, not {} x {} x {}",
      kMostSamples, options.steps, options.micro_batches, options.batch_size);
}

bool IsWholeNumber(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

Result<uint64_t> ParseNumber(const Range& range, const std::string& text) {
  if (!IsWholeNumber(text)) {
    return Err(Code::kInvalidArgument, "{} must be a whole number from {} to {}, not \"{}\"",
               range.flag, range.low, range.high, text);
  }
  uint64_t value = 0;
  const auto error = std::from_chars(text.data(), text.data() + text.size(), value).ec;
  // A negative number or one of more than 64 bits is a number all the same, and far out of every range.
  if (error != std::errc{} || value < range.low || value > range.high) {
    return Err(Code::kInvalidArgument, "{} must be from {} to {}, not {}", range.flag, range.low,
               range.high, text);
  }
  return value;
}

// Levenshtein distance, one row of the table at a time.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replace = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = std::exchange(row[j + 1], std::min({replace, row[j] + 1, row[j + 1] + 1}));
    }
  }
  return row[b.size()];
}

// "did you mean --steps?" for a flag that is close to one of ours, else where to look.
std::string Suggestion(std::string_view flag) {
  const std::string_view bare = flag.substr(std::min(flag.find_first_not_of('-'), flag.size()));
  std::string_view closest;
  size_t closest_distance = 3;  // more than two mistakes are another word
  for (std::string_view known :
       {"--steps", "--seed", "--micro-batches", "--batch-size", "--data", "--help"}) {
    const std::string_view name = known.substr(2);
    const bool abbreviates = bare.size() >= 3 && name.starts_with(bare);
    const size_t distance = abbreviates ? 1 : EditDistance(bare, name);
    if (distance < closest_distance) {
      closest = known;
      closest_distance = distance;
    }
  }
  return closest.empty() ? "--help lists the flags" : fmt::format("did you mean {}?", closest);
}

// cxxopts cuts "-steps" into letters: "-s" stands for the argument that it came from.
std::string_view ArgumentOf(std::string_view left_over, std::span<const char* const> arguments) {
  for (std::string_view argument : arguments.subspan(1)) {
    if (argument.starts_with(left_over)) return argument;
  }
  return left_over;
}

// Errors for what cxxopts could not place: flags that do not exist, and words that belong to no flag.
Status CheckLeftOver(const std::vector<std::string>& left_over,
                     std::span<const char* const> arguments) {
  if (left_over.empty()) return {};
  if (!left_over[0].starts_with('-') || left_over[0] == "-") {
    return Err(Code::kInvalidArgument,
               "unexpected argument \"{}\"; this program takes flags only, --help lists them",
               left_over[0]);
  }
  std::string_view flag = ArgumentOf(left_over[0], arguments);
  flag = flag.substr(0, flag.find('='));
  return Err(Code::kInvalidArgument, "unknown flag {}; {}", flag, Suggestion(flag));
}

std::string RangeText(const Range& range, uint64_t standard) {
  return fmt::format("from {} to {} (default: {})", range.low, range.high, standard);
}

cxxopts::Options Flags(const std::string& program, const std::string& about,
                       const TrainOptions& defaults) {
  const auto text = [] { return cxxopts::value<std::string>(); };
  const std::string data = defaults.data.empty() ? "the program's own" : defaults.data.string();
  cxxopts::Options flags(program, about + "\n");
  flags.custom_help("[FLAGS]");
  flags.set_width(100);
  flags.add_options()("steps", "Optimizer updates, " + RangeText(kSteps, defaults.steps), text(),
                      "N")(
      "seed",
      "Seed of the initial weights, the order of samples and all random numbers, " +
          RangeText(kSeed, defaults.seed),
      text(), "S")(
      "micro-batches",
      "Micro-batches per step, the units of work that workers share, so that there can be no more "
      "workers than these, " +
          RangeText(kMicroBatches, defaults.micro_batches),
      text(), "V")("batch-size",
                   "Samples per micro-batch, " + RangeText(kBatchSize, defaults.batch_size), text(),
                   "B")("data", "Folder with the data set (default: " + data + ")", text(), "DIR")(
      "h,help", "Print this help and exit");
  return flags;
}

std::string HelpText(const cxxopts::Options& flags, const std::string& program) {
  return fmt::format(
      "{}\n"
      "Run by hand, the program trains alone. With several workers, which may come and go:\n"
      "  launcher run --workers 4 -- {}\n"
      "The trained weights are the same, to the bit, for any number of workers.\n",
      flags.help(), program);
}

// The value of `flag` as a number, or nothing changed if it was not given.
template <typename Integer>
Status ReadNumber(const cxxopts::ParseResult& given, const Range& range, Integer& value) {
  const std::string name(range.flag.substr(2));
  if (given.count(name) == 0) return {};
  MUSTER_ASSIGN(const uint64_t number, ParseNumber(range, given[name].as<std::string>()));
  value = static_cast<Integer>(number);
  return {};
}

Status ReadFolder(const cxxopts::ParseResult& given, std::filesystem::path& folder) {
  if (given.count("data") == 0) return {};
  folder = given["data"].as<std::string>();
  if (folder.empty()) return Err(Code::kInvalidArgument, "--data must be a folder, not \"\"");
  return {};
}

Status CheckGivenOnce(const cxxopts::ParseResult& given) {
  for (const char* name : {"steps", "seed", "micro-batches", "batch-size", "data"}) {
    if (given.count(name) > 1) {
      return Err(Code::kInvalidArgument, "--{} must be given once, not {} times", name,
                 given.count(name));
    }
  }
  return {};
}

Result<TrainOptions> ReadOptions(const cxxopts::ParseResult& given, TrainOptions options) {
  MUSTER_TRY(CheckGivenOnce(given));
  MUSTER_TRY(ReadNumber(given, kSteps, options.steps));
  MUSTER_TRY(ReadNumber(given, kSeed, options.seed));
  MUSTER_TRY(ReadNumber(given, kMicroBatches, options.micro_batches));
  MUSTER_TRY(ReadNumber(given, kBatchSize, options.batch_size));
  MUSTER_TRY(ReadFolder(given, options.data));
  MUSTER_TRY(options.Validate());
  return options;
}

std::string ProgramName(std::span<const char* const> arguments) {
  return arguments.empty() ? "program" : std::filesystem::path(arguments[0]).filename().string();
}

}  // namespace

int64_t Parameter::size() const {
  int64_t size = 1;
  for (int64_t extent : shape) {
    MUSTER_CHECK(extent > 0 && !__builtin_mul_overflow(size, extent, &size),
                 "parameter {} has an extent of {}", name, extent);
  }
  return size;
}

Status TrainOptions::Validate() const {
  MUSTER_TRY(CheckRange(kSteps, steps));
  MUSTER_TRY(CheckRange(kMicroBatches, micro_batches));
  MUSTER_TRY(CheckRange(kBatchSize, batch_size));
  MUSTER_TRY(CheckSampleCount(*this));
  if (!learning_rate) return Err(Code::kInvalidArgument, "learning_rate must be a schedule");
  if (!std::isfinite(clip_norm) || clip_norm < 0) {
    return Err(Code::kInvalidArgument, "clip_norm must be 0 or a positive number, not {}",
               clip_norm);
  }
  if (lane_bits != 0 && lane_bits != 32 && lane_bits != 64) {
    return Err(Code::kInvalidArgument, "lane_bits must be 0, 32 or 64, not {}", lane_bits);
  }
  return CheckRange(Range{"headroom_bits", 0, 20}, headroom_bits);
}

Result<TrainCommandLine> ParseTrainFlags(std::span<const char* const> arguments,
                                         const std::string& about, const TrainOptions& defaults) {
  const std::string program = ProgramName(arguments);
  if (arguments.empty()) return TrainCommandLine{defaults, {}};
  cxxopts::Options flags = Flags(program, about, defaults);
  flags.allow_unrecognised_options();
  try {
    const auto given = flags.parse(static_cast<int>(arguments.size()), arguments.data());
    if (given.count("help") > 0) return TrainCommandLine{defaults, HelpText(flags, program)};
    MUSTER_TRY(CheckLeftOver(given.unmatched(), arguments));
    MUSTER_ASSIGN(TrainOptions options, ReadOptions(given, defaults));
    return TrainCommandLine{std::move(options), {}};
  } catch (const cxxopts::exceptions::exception&) {
    // The one thing that cxxopts itself refuses here: the last flag has no value.
    return Err(Code::kInvalidArgument, "{} needs a value; --help lists the flags",
               arguments.back());
  }
}

TrainOptions ParseTrainOptions(int argc, char** argv, const std::string& about,
                               TrainOptions defaults) {
  const std::span<const char* const> arguments(argv, static_cast<size_t>(std::max(argc, 0)));
  auto command_line = ParseTrainFlags(arguments, about, defaults);
  if (!command_line) {
    fmt::print(stderr, "{}: {}\n", ProgramName(arguments), command_line.error().ToString());
    std::exit(2);
  }
  if (!command_line->help.empty()) {
    fmt::print("{}", command_line->help);
    std::exit(0);
  }
  return std::move(command_line->options);
}

}  // namespace muster
