#include "k8s/client/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "runtime/base/environment.h"
#include "runtime/base/unique_fd.h"

namespace muster::k8s {
namespace {

constexpr size_t kKeptErrorBytes = 4096;

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> MakePipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "cannot make a pipe");
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  ::fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK);
  return pipe;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

Result<pid_t> Start(const Subprocess& subprocess, int output_fd, int errors_fd) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  if (!subprocess.interactive) {
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, errors_fd, STDERR_FILENO);
  }
  posix_spawn_file_actions_adddup2(&files, output_fd, STDOUT_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&files, 3);

  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  // A group of its own can be killed as a whole, but may not read from the terminal.
  if (!subprocess.interactive) flags |= POSIX_SPAWN_SETPGROUP;
  posix_spawnattr_setflags(&attributes, static_cast<short>(flags));

  std::vector<std::string> argv = {subprocess.command};
  argv.insert(argv.end(), subprocess.args.begin(), subprocess.args.end());
  const std::vector<std::string> environment = EnvironmentWith(subprocess.changes);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, subprocess.command.c_str(), &files, &attributes,
                                   Pointers(argv).data(), Pointers(environment).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) return ErrnoError(error, fmt::format("cannot start {}", subprocess.command));
  return pid;
}

// The started program; killed and waited for when this goes.
class Child {
 public:
  Child(pid_t pid, bool own_group) : pid_(pid), own_group_(own_group) {
    // Cannot fail for a child that nobody has waited for, save for lack of descriptors; then the deadline ends it.
    pidfd_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  }
  ~Child() { Finish(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  int pidfd() const { return pidfd_.get(); }

  // Ends what is left of it and returns its wait status.
  int Finish() {
    if (finished_) return wait_status_;
    finished_ = true;
    // Not waited for yet, so that its number, and its group's, are still its own. Harmless if it ended by itself.
    ::kill(own_group_ ? -pid_ : pid_, SIGKILL);
    while (::waitpid(pid_, &wait_status_, 0) < 0 && errno == EINTR) {
    }
    return wait_status_;
  }

 private:
  const pid_t pid_;
  const bool own_group_;
  UniqueFd pidfd_;
  bool finished_ = false;
  int wait_status_ = 0;
};

// Takes what can be read now. False at the end of the stream.
bool Drain(int fd, size_t limit, std::string* into) {
  std::array<char, 4096> buffer;
  while (into->size() <= limit) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got > 0) {
      into->append(buffer.data(), got);
    } else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
      return false;
    } else if (errno == EAGAIN) {
      return true;
    }
  }
  return true;
}

void KeepEnd(size_t bytes, std::string* text) {
  if (text->size() > bytes) text->erase(0, text->size() - bytes);
}

}  // namespace

Result<SubprocessResult> RunSubprocess(const Subprocess& subprocess) {
  MUSTER_ASSIGN(Pipe output, MakePipe());
  MUSTER_ASSIGN(Pipe errors, MakePipe());
  MUSTER_ASSIGN(const pid_t pid, Start(subprocess, output.write.get(), errors.write.get()));
  Child child(pid, !subprocess.interactive);
  output.write.reset();
  errors.write.reset();

  SubprocessResult result;
  std::array<struct pollfd, 3> fds = {
      {{child.pidfd(), POLLIN, 0}, {output.read.get(), POLLIN, 0}, {errors.read.get(), POLLIN, 0}}};
  bool ended = false;
  while (!ended) {
    const TimePoint now = MonotonicNow();
    if (now >= subprocess.deadline) {
      return Err(Code::kDeadlineExceeded, "{} did not end in time", subprocess.command);
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(subprocess.deadline - now);
    ::poll(fds.data(), fds.size(), static_cast<int>(std::min<int64_t>(left.count(), 60'000)));
    // Before the pipes are read for the last time: what it printed is in them once it has ended. That they are still open
    // somewhere, in a daemon that it left behind, is nothing to wait for.
    ended = fds[0].revents != 0;
    if (!Drain(output.read.get(), subprocess.max_output_bytes, &result.output)) fds[1].fd = -1;
    if (!Drain(errors.read.get(), 16 * kKeptErrorBytes, &result.errors)) fds[2].fd = -1;
    KeepEnd(kKeptErrorBytes, &result.errors);
    if (result.output.size() > subprocess.max_output_bytes) {
      return Err(Code::kResourceExhausted, "{} printed more than {} bytes", subprocess.command,
                 subprocess.max_output_bytes);
    }
  }
  const int status = child.Finish();
  result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

}  // namespace muster::k8s
