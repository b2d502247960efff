// `launcher top`: the status of a job, again and again.
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "launcher/job/fields.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/cluster_verbs.h"
#include "launcher/verbs/jobs.h"
#include "launcher/verbs/text.h"
#include "launcher/verbs/top.h"

namespace muster {
namespace {

using nlohmann::json;

constexpr int64_t kMostSeconds = 3600;
constexpr std::string_view kClear = "\x1b[H\x1b[2J";

ScreenSize SizeOfTerminal() {
  winsize size = {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return {};
  return {size.ws_row, size.ws_col};
}

// Waits; false if meanwhile nobody reads us any more.
bool Rest(int64_t seconds) {
  pollfd reader = {STDOUT_FILENO, 0, 0};
  return ::poll(&reader, 1, static_cast<int>(seconds * 1000)) == 0;
}

}  // namespace

Result<int> ShowTop(const Invocation& invocation) {
  int64_t every = 1;
  if (invocation.Has("every")) {
    MUSTER_ASSIGN(every, ParseNumber("--every", invocation.Get("every"), 1, kMostSeconds));
  }
  MUSTER_ASSIGN(const JobStore store, OpenStore());
  MUSTER_ASSIGN(const FoundJob job, FindAnyJob(invocation, store, invocation.operands, true));
  const bool screen = ::isatty(STDOUT_FILENO) != 0 && !invocation.json();
  json last;
  while (true) {
    const Result<json> status = ExplainedStatus(store, job);
    if (!status && last.is_null()) {
      if (job.cluster) return ReportClusterFailure("top", status.error());
      return tl::unexpected(status.error());
    }
    if (status) last = *status;
    const std::string trouble = status ? "" : status.error().message;
    const std::string shown =
        invocation.json()
            ? (status ? last.dump(-1, ' ', false, json::error_handler_t::replace) + "\n" : "")
            : TopScreen(last, trouble, screen ? SizeOfTerminal() : ScreenSize{});
    const bool ended = IsFinalPhase(FieldOr<std::string>(last, "phase", ""));
    const bool more = !screen && !invocation.json() && !ended;
    if (!Print((screen ? std::string(kClear) : "") + shown + (more ? "\n" : ""))) return 0;
    if (ended || !Rest(every)) return 0;
  }
}

}  // namespace muster
