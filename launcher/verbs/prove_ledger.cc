// `launcher ledger`: proves from what the workers wrote down that each micro-batch and each sample was used exactly once.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/job/fields.h"
#include "launcher/verbs/jobs.h"
#include "launcher/verbs/ledger.h"
#include "launcher/verbs/text.h"
#include "runtime/base/files.h"

namespace muster {
namespace {

using nlohmann::ordered_json;

constexpr int kNotProven = 3;

// The ledgers of a job in the order of their names. Errors: kNotFound if there are none.
Result<std::vector<std::filesystem::path>> LedgerFiles(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
  }
  std::ranges::sort(files);
  if (!files.empty()) return files;
  return WithHint(Err(Code::kNotFound, "{} holds no ledger", folder.string()),
                  "workers begin theirs when they have joined; see: launcher status");
}

std::string Json(const LedgerReport& report) {
  ordered_json epochs = ordered_json::array();
  for (const LedgerEpoch& epoch : report.epochs) {
    epochs.push_back({{"epoch", epoch.epoch},
                      {"samples", epoch.samples},
                      {"missing", epoch.missing},
                      {"duplicates", epoch.duplicates}});
  }
  const ordered_json object = {{"first_step", report.first_step},
                               {"steps", report.steps},
                               {"samples_consumed", report.samples_consumed},
                               {"epochs", std::move(epochs)},
                               {"redone_steps", report.redone_steps},
                               {"complete", report.complete},
                               {"problems", report.problems},
                               {"ok", report.ok()}};
  return object.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string Text(const LedgerReport& report) {
  std::string text =
      fmt::format("{} steps from step {} on, {} samples, {} step computations thrown away\n",
                  report.steps, report.first_step, report.samples_consumed, report.redone_steps);
  if (!report.complete) text += "a ledger was full: later steps were not looked at\n";
  if (!report.epochs.empty()) {
    text +=
        fmt::format("epochs {} to {}: ", report.epochs.front().epoch, report.epochs.back().epoch);
    text += report.ok() ? "each sample was used exactly once\n" : "see below\n";
  }
  for (const std::string& problem : report.problems) text += "  " + problem + "\n";
  return text + (report.ok() ? "ok: each micro-batch of each step was used exactly once\n"
                             : "NOT PROVEN\n");
}

}  // namespace

Result<int> ProveLedger(const Invocation& invocation) {
  MUSTER_ASSIGN(const JobStore store, OpenStore());
  MUSTER_ASSIGN(const std::string name, FindJob(store, invocation.operands, true));
  // Before the ledgers: a step that is committed by now has all its lines.
  MUSTER_ASSIGN(const nlohmann::json status, store.ReadStatus(name));
  MUSTER_ASSIGN(const auto files, LedgerFiles(store.Folder(name).root() / "ledger"));
  LedgerFold fold;
  for (const auto& file : files) {
    MUSTER_ASSIGN(const std::string content, ReadFile(file));
    fold.AddFile(file.stem().string(), content);
  }
  const LedgerReport report = fold.Prove(FieldOr<uint64_t>(status, "step", 0));
  Print(invocation.json() ? Json(report) : Text(report));
  return report.ok() ? 0 : kNotProven;
}

}  // namespace muster
