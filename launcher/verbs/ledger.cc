#include "launcher/verbs/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/job/fields.h"

namespace muster {
namespace {

using nlohmann::json;

// Adds the positions `begin` to `end` - 1 to a figure of each epoch that they lie in.
void AddTo(std::map<uint64_t, LedgerEpoch>& epochs, uint64_t dataset, uint64_t begin, uint64_t end,
           uint64_t LedgerEpoch::*figure) {
  while (begin < end) {
    const uint64_t epoch = begin / dataset;
    const uint64_t until = std::min(end, (epoch + 1) * dataset);
    epochs[epoch].*figure += until - begin;
    begin = until;
  }
}

}  // namespace

void LedgerFold::AddFile(const std::string& name, std::string_view content) {
  const size_t file = files_.size();
  files_.push_back(name);
  last_step_ = 0;
  for (size_t number = 1; !content.empty(); ++number) {
    const size_t length = content.find('\n');
    if (length == content.npos) return;
    const json line = json::parse(content.substr(0, length), nullptr, false);
    content.remove_prefix(length + 1);
    if (line.is_object()) {
      AddLine(file, line);
    } else {
      Complain(problems_, fmt::format("line {} of {} is no JSON object", number, name));
    }
  }
}

void LedgerFold::AddLine(size_t file, const json& line) {
  if (line.contains("dataset")) {
    dataset_ = FieldOr<uint64_t>(line, "dataset", 0);
    micro_batches_ = FieldOr<int64_t>(line, "micro_batches", 0);
    samples_per_step_ =
        static_cast<uint64_t>(micro_batches_) * FieldOr<uint64_t>(line, "batch_size", 0);
  } else if (line.contains("steps")) {
    ended_at_ = std::max(ended_at_, FieldOr<uint64_t>(line, "steps", 0));
  } else if (line.contains("full")) {
    full_at_ = std::min(full_at_, last_step_);
  } else {
    const auto range = FieldOr<std::vector<int64_t>>(line, "micro_batches", {});
    if (range.size() != 2 || !line.contains("step") || range[0] > range[1]) {
      return Complain(
          problems_, fmt::format("{} has a line that says nothing: {}", files_[file], line.dump()));
    }
    last_step_ = FieldOr<uint64_t>(line, "step", 0);
    AddShare(last_step_, FieldOr<uint64_t>(line, "generation", 0),
             {.file = file,
              .begin = range[0],
              .end = range[1],
              .position = FieldOr<uint64_t>(line, "position", 0),
              .samples = FieldOr<uint64_t>(line, "samples", 0)});
  }
}

void LedgerFold::AddShare(uint64_t step_number, uint64_t generation, const Share& share) {
  Step& step = steps_[step_number];
  if (std::ranges::find(step.generations, generation) == step.generations.end()) {
    step.generations.push_back(generation);
  }
  if (generation < step.generation) return;
  if (generation > step.generation) step.shares.clear();
  step.generation = generation;
  const auto before = std::ranges::find(step.shares, share.file, &Share::file);
  if (before == step.shares.end()) {
    step.shares.push_back(share);
  } else {
    const int times = before->times + 1;
    *before = share;
    before->times = times;
  }
}

void LedgerFold::Complain(std::vector<std::string>& problems, std::string problem) const {
  if (problems.size() < kMaxProblems) problems.push_back(std::move(problem));
}

LedgerReport LedgerFold::Prove(uint64_t committed) const {
  LedgerReport report;
  report.problems = problems_;
  committed = std::max(committed, ended_at_);
  report.complete = committed <= full_at_;
  committed = std::min(committed, full_at_);
  report.first_step = steps_.empty() ? committed : std::min(steps_.begin()->first, committed);
  report.steps = committed - report.first_step;
  std::vector<Range> used;
  uint64_t expected = report.first_step;
  for (const auto& [number, step] : steps_) {
    if (number >= committed) break;
    for (; expected < number; ++expected) {
      Complain(report.problems, fmt::format("nobody computed step {}", expected));
    }
    expected = number + 1;
    ProveStep(number, step, report);
    for (const Share& share : step.shares) {
      used.push_back({share.position, share.position + share.samples});
      report.samples_consumed += share.samples;
    }
  }
  for (; expected < committed && report.problems.size() < kMaxProblems; ++expected) {
    Complain(report.problems, fmt::format("nobody computed step {}", expected));
  }
  ProveEpochs(std::move(used),
              {report.first_step * samples_per_step_, committed * samples_per_step_}, report);
  return report;
}

void LedgerFold::ProveStep(uint64_t number, const Step& step, LedgerReport& report) const {
  report.redone_steps += step.generations.size() - 1;
  std::vector<Share> shares = step.shares;
  std::ranges::sort(shares, {}, &Share::begin);
  int64_t next = 0;
  for (const Share& share : shares) {
    if (share.begin != next) {
      Complain(
          report.problems,
          fmt::format("step {}, generation {}: micro-batches {} to {} were computed {}", number,
                      step.generation, std::min(next, share.begin), std::max(next, share.begin) - 1,
                      share.begin < next ? "twice" : "by nobody"));
    }
    if (share.times != shares.front().times) {
      Complain(report.problems,
               fmt::format("step {}, generation {}: {} computed it {} times, {} {} times", number,
                           step.generation, files_[share.file], share.times,
                           files_[shares.front().file], shares.front().times));
    }
    next = std::max(next, share.end);
  }
  if (micro_batches_ > 0 && next != micro_batches_) {
    Complain(report.problems,
             fmt::format("step {}, generation {}: {} of {} micro-batches were computed", number,
                         step.generation, next, micro_batches_));
  }
}

void LedgerFold::ProveEpochs(std::vector<Range> used, Range wanted, LedgerReport& report) const {
  if (dataset_ == 0) return;
  std::ranges::sort(used, {}, &Range::begin);
  std::map<uint64_t, LedgerEpoch> epochs;
  uint64_t covered = wanted.begin;  // all before it is accounted for
  for (const Range& range : used) {
    AddTo(epochs, dataset_, covered, range.begin, &LedgerEpoch::missing);
    AddTo(epochs, dataset_, range.begin, std::min(range.end, covered), &LedgerEpoch::duplicates);
    AddTo(epochs, dataset_, std::max(range.begin, covered), range.end, &LedgerEpoch::samples);
    covered = std::max(covered, range.end);
  }
  AddTo(epochs, dataset_, covered, wanted.end, &LedgerEpoch::missing);
  for (auto& [number, epoch] : epochs) {
    epoch.epoch = number;
    report.epochs.push_back(epoch);
    if (epoch.missing + epoch.duplicates == 0) continue;
    Complain(report.problems, fmt::format("epoch {}: {} samples missing, {} used more than once",
                                          number, epoch.missing, epoch.duplicates));
  }
}

}  // namespace muster
