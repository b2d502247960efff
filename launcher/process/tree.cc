#include "launcher/process/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/base/unique_fd.h"

namespace muster {
namespace {

struct ProcessLine {
  char state = '?';
  pid_t parent = 0;
};

// Reads state and parent of a process; nothing if it has gone.
std::optional<ProcessLine> ReadProcess(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[512];
  const ssize_t got = fd ? ::read(fd.get(), buffer, sizeof buffer) : -1;
  if (got <= 0) return std::nullopt;
  // "PID (COMMAND) STATE PARENT ...": the command may hold anything, so look for its last
  // parenthesis.
  const std::string_view text(buffer, static_cast<size_t>(got));
  const size_t end = text.rfind(") ");
  if (end == text.npos || end + 4 >= text.size()) return std::nullopt;
  ProcessLine line{.state = text[end + 2]};
  const std::string_view parent = text.substr(end + 4);
  std::from_chars(parent.data(), parent.data() + parent.size(), line.parent);
  return line;
}

// The living children of every process, from one pass over /proc.
std::multimap<pid_t, pid_t> ReadChildren() {
  std::multimap<pid_t, pid_t> children;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc"), ::closedir);
  if (folder == nullptr) return children;
  while (const dirent* entry = ::readdir(folder.get())) {
    pid_t pid = 0;
    const std::string_view name = entry->d_name;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size()) continue;
    const auto line = ReadProcess(pid);
    if (line && line->state != 'Z' && line->state != 'X') children.emplace(line->parent, pid);
  }
  return children;
}

}  // namespace

Status BecomeSubreaper() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0) return {};
  return ErrnoError(errno, "cannot become a child subreaper");
}

std::vector<pid_t> Descendants(pid_t root, const std::set<pid_t>& spared) {
  const auto children = ReadChildren();
  std::vector<pid_t> found;
  const auto add_children = [&](pid_t pid) {
    const auto [begin, end] = children.equal_range(pid);
    for (auto child = begin; child != end; ++child) {
      if (!spared.contains(child->second)) found.push_back(child->second);
    }
  };
  add_children(root);
  for (size_t i = 0; i < found.size(); ++i) add_children(pid_t{found[i]});
  return found;
}

void ReapEnded(const OnReaped& on_reaped) {
  int status = 0;
  pid_t pid;
  while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) on_reaped(pid, status);
}

std::vector<pid_t> KillDescendants(const std::set<pid_t>& spared, TimePoint deadline,
                                   const OnReaped& on_reaped) {
  while (true) {
    const std::vector<pid_t> left = Descendants(::getpid(), spared);
    for (const pid_t pid : left) ::kill(pid, SIGKILL);
    ReapEnded(on_reaped);
    if (left.empty() || MonotonicNow() >= deadline) return left;
    ::poll(nullptr, 0, 1);
  }
}

bool IsAlive(pid_t pid) {
  const auto line = ReadProcess(pid);
  return line && line->state != 'Z' && line->state != 'X';
}

}  // namespace muster
