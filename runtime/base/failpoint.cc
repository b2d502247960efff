#include "runtime/base/failpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "runtime/base/pause.h"
#include "runtime/base/unique_fd.h"

namespace muster {
namespace {

struct Plan {
  enum class Action { kNone, kCrash, kFail, kStall };
  Action action = Action::kNone;
  double seconds = 0;
  int at_pass = 1;
  std::atomic<int> passes = 0;
};

struct Plans {
  std::array<Plan, std::size(kFailpoints)> of;
  std::string marks;
};

[[noreturn]] void Refuse(std::string_view entry, std::string_view why) {
  fmt::print(stderr, "MUSTER_FAILPOINTS: {}: {}\n", entry, why);
  std::_Exit(2);
}

template <typename Number>
Number Parse(std::string_view entry, std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number <= 0) {
    Refuse(entry, "this is not a number above zero");
  }
  return number;
}

void ReadEntry(Plans& plans, std::string_view entry) {
  const size_t equals = entry.find('=');
  if (equals == entry.npos) Refuse(entry, "NAME=ACTION is expected");
  const auto* const name = std::ranges::find(kFailpoints, entry.substr(0, equals));
  if (name == std::end(kFailpoints)) Refuse(entry, "there is no failpoint of this name");
  Plan& plan = plans.of[static_cast<size_t>(name - std::begin(kFailpoints))];
  std::string_view action = entry.substr(equals + 1);
  if (const size_t at = action.find('@'); at != action.npos) {
    plan.at_pass = Parse<int>(entry, action.substr(at + 1));
    action = action.substr(0, at);
  }
  constexpr std::string_view kStall = "stall:";
  if (action == "crash") {
    plan.action = Plan::Action::kCrash;
  } else if (action == "fail") {
    plan.action = Plan::Action::kFail;
  } else if (action.starts_with(kStall)) {
    plan.action = Plan::Action::kStall;
    plan.seconds = Parse<double>(entry, action.substr(kStall.size()));
  } else {
    Refuse(entry, "the actions are crash, fail and stall:SECONDS");
  }
}

// None if the variable is not set.
std::unique_ptr<Plans> ReadPlans() {
  const char* text = std::getenv("MUSTER_FAILPOINTS");
  if (text == nullptr) return nullptr;
  auto plans = std::make_unique<Plans>();
  const char* marks = std::getenv("MUSTER_FAILPOINT_MARKS");
  if (marks == nullptr) Refuse(text, "MUSTER_FAILPOINT_MARKS is not set");
  plans->marks = marks;
  for (std::string_view left = text; !left.empty();) {
    const size_t comma = std::min(left.find(','), left.size());
    ReadEntry(*plans, left.substr(0, comma));
    left.remove_prefix(std::min(comma + 1, left.size()));
  }
  return plans;
}

Status Act(Plans& plans, size_t index) {
  Plan& plan = plans.of[index];
  if (plan.action == Plan::Action::kNone || ++plan.passes != plan.at_pass) return {};
  const std::string mark = fmt::format("{}/{}", plans.marks, kFailpoints[index]);
  const UniqueFd made(::open(mark.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
  if (!made) return {};  // another process has
  if (plan.action == Plan::Action::kCrash) ::kill(::getpid(), SIGKILL);
  if (plan.action == Plan::Action::kStall) {
    PauseFor(std::chrono::duration_cast<Duration>(std::chrono::duration<double>(plan.seconds)), {});
  }
  if (plan.action != Plan::Action::kFail) return {};
  return Err(Code::kInternal, "failpoint {}", kFailpoints[index]);
}

}  // namespace

Status Failpoint(FailpointName name) {
  static const std::unique_ptr<Plans> plans = ReadPlans();
  if (plans == nullptr) [[likely]]
    return {};
  return Act(*plans, name.index());
}

}  // namespace muster
