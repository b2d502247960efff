// Ledger: folds the ledgers of all workers of a job (runtime/train/ledger.h) into the proof that every micro-batch of a step, and
// every sample of an epoch, was used exactly once.
//
// A worker writes its line before the vote that commits the step, and nobody computes a committed step again. So the last
// generation that has lines for a step is the one whose sums were applied; earlier ones were thrown away when they broke. Within
// a generation all members compute a step equally often (again after an overflow); the last time counts.
//
// Threading: plain values; one thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

struct LedgerEpoch {
  uint64_t epoch = 0;
  uint64_t samples = 0;     // different ones that were used
  uint64_t missing = 0;     // that should have been used by now
  uint64_t duplicates = 0;  // uses beyond the first
  bool operator==(const LedgerEpoch&) const = default;
};

struct LedgerReport {
  uint64_t first_step = 0;  // not 0 for a job that was resumed from a checkpoint
  uint64_t steps = 0;       // first_step and those after it, committed
  uint64_t samples_consumed = 0;
  std::vector<LedgerEpoch> epochs;    // empty if no line names the size of the data set
  uint64_t redone_steps = 0;          // computations of a step in a generation that broke
  std::vector<std::string> problems;  // sentences; the first kMaxProblems
  bool complete = true;               // false: a ledger was full, and later steps are not looked at
  bool ok() const { return problems.empty(); }
};

class LedgerFold {
 public:
  static constexpr size_t kMaxProblems = 20;

  // Takes the content of one worker's ledger; `name` ("w-3.17") stands for it in problems. A last line without its line
  // break was cut short by a death and is left out.
  void AddFile(const std::string& name, std::string_view content);

  // What the lines prove about the steps below `committed`, or below what a worker has written at its end if that is more.
  LedgerReport Prove(uint64_t committed) const;

 private:
  // What one worker computed of a step in one generation, the last time that it did.
  struct Share {
    size_t file = 0;
    int64_t begin = 0;
    int64_t end = 0;
    uint64_t position = 0;
    uint64_t samples = 0;
    int times = 1;
  };
  struct Step {
    uint64_t generation = 0;            // the last
    std::vector<Share> shares;          // in it
    std::vector<uint64_t> generations;  // all
  };
  struct Range {
    uint64_t begin = 0;
    uint64_t end = 0;
  };

  void AddLine(size_t file, const nlohmann::json& line);
  void AddShare(uint64_t step_number, uint64_t generation, const Share& share);
  void Complain(std::vector<std::string>& problems, std::string problem) const;
  void ProveStep(uint64_t number, const Step& step, LedgerReport& report) const;
  void ProveEpochs(std::vector<Range> used, Range wanted, LedgerReport& report) const;

  std::vector<std::string> files_;
  std::map<uint64_t, Step> steps_;
  std::vector<std::string> problems_;
  uint64_t dataset_ = 0;       // samples of an epoch; 0: unknown
  int64_t micro_batches_ = 0;  // V
  uint64_t samples_per_step_ = 0;
  uint64_t last_step_ = 0;         // of the file being added
  uint64_t ended_at_ = 0;          // steps that a worker has seen committed at its end
  uint64_t full_at_ = UINT64_MAX;  // from this step on, a ledger may lack lines
};

}  // namespace muster
