#include "launcher/process/spawn.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/base/low_priority.h"
#include "runtime/base/unique_fd.h"

namespace muster {
namespace {

// What the child needs, all of it made before the fork: afterwards nothing may allocate.
struct Prepared {
  const char* executable;
  char* const* argv;
  char* const* environment;
  const char* cwd;  // null: ours
  int fds[3];
  int error_fd;
  int death_signal;
  bool low_priority;
  pid_t parent;
};

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

[[noreturn]] void FailChild(int error_fd) {
  const int error = errno;
  const ssize_t ignored = ::write(error_fd, &error, sizeof error);
  (void)ignored;
  ::_exit(127);
}

// Runs in the child: async-signal-safe calls only.
[[noreturn]] void RunChild(const Prepared& prepared) {
  ::prctl(PR_SET_PDEATHSIG, prepared.death_signal);
  if (::getppid() != prepared.parent) ::_exit(127);  // it died before the line above
  ::setpgid(0, 0);
  if (prepared.low_priority) ::setpriority(PRIO_PROCESS, 0, kLowPriority);
  struct sigaction defaults = {};
  defaults.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &defaults, nullptr);
  for (int i = 0; i < 3; ++i) {
    if (::dup2(prepared.fds[i], i) < 0) FailChild(prepared.error_fd);
  }
  // Marked rather than closed, so that error_fd can still speak if exec fails.
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  if (prepared.cwd != nullptr && ::chdir(prepared.cwd) != 0) FailChild(prepared.error_fd);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(prepared.executable, prepared.argv, prepared.environment);
  FailChild(prepared.error_fd);
}

tl::unexpected<Error> ExecError(const SpawnSpec& spec, int error) {
  Code code = Code::kInternal;
  if (error == ENOENT || error == ENOTDIR) code = Code::kNotFound;
  if (error == EACCES || error == EPERM) code = Code::kPermissionDenied;
  if (error == ENOEXEC) code = Code::kInvalidArgument;
  return Err(code, "cannot start {}: {}", spec.executable.string(), ::strerror(error));
}

}  // namespace

Result<pid_t> Spawn(const SpawnSpec& spec) {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return ErrnoError(errno, "cannot open /dev/null");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "cannot make a pipe");
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);

  const std::vector<char*> argv = Pointers(spec.argv);
  const std::vector<char*> environment = Pointers(spec.environment);
  const auto or_null = [&](int fd) { return fd < 0 ? null.get() : fd; };
  const Prepared prepared{
      .executable = spec.executable.c_str(),
      .argv = argv.data(),
      .environment = environment.data(),
      .cwd = spec.cwd.empty() ? nullptr : spec.cwd.c_str(),
      .fds = {or_null(spec.stdin_fd), or_null(spec.stdout_fd), or_null(spec.stderr_fd)},
      .error_fd = write_end.get(),
      .death_signal = spec.death_signal,
      .low_priority = spec.low_priority,
      .parent = ::getpid()};

  // Blocked meanwhile, so that no handler of ours runs in the child.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::_Fork();
  if (pid == 0) RunChild(prepared);
  const int fork_error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return ErrnoError(fork_error, "cannot fork");

  write_end.reset();
  int error = 0;
  ssize_t got;
  do {
    got = ::read(read_end.get(), &error, sizeof error);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return pid;  // closed by exec
  ::waitpid(pid, nullptr, 0);
  return ExecError(spec, got == sizeof error ? error : EIO);
}

std::string SignalName(int signal) {
  const char* abbreviation = ::sigabbrev_np(signal);
  if (abbreviation == nullptr) return fmt::format("signal {}", signal);
  return fmt::format("SIG{} ({})", abbreviation, ::sigdescr_np(signal));
}

std::filesystem::path OwnExecutable() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  return !error && std::filesystem::exists(path, error) ? path : "/proc/self/exe";
}

std::string DescribeExit(int wait_status) {
  if (WIFSIGNALED(wait_status)) return SignalName(WTERMSIG(wait_status));
  return fmt::format("exit code {}", WEXITSTATUS(wait_status));
}

}  // namespace muster
