#include "tests/cluster/node/pod_sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

#include "launcher/process/spawn.h"
#include "runtime/base/files.h"
#include "runtime/base/unique_fd.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;

constexpr int kNetworkMilliseconds = 10'000;

// Ends a pod's first process with a sentence in the pod's log.
void Require(bool good, const std::string& what) {
  if (good) return;
  std::fprintf(stderr, "process node: %s: %s\n", what.c_str(), std::strerror(errno));
  std::_Exit(128);
}

// Runs `ip` on a batch of commands, in the network of `pid` or in ours (0).
Status Ip(const std::string& batch, pid_t pid) {
  std::vector<std::string> argv{"ip", "-batch", "-"};
  if (pid != 0)
    argv.insert(argv.begin(), {"nsenter", "--target", std::to_string(pid), "--net", "--"});
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Err(Code::kInternal, "pipe: {}", std::strerror(errno));
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  MUSTER_ASSIGN(const pid_t child, Spawn({.executable = pid != 0 ? "/usr/bin/nsenter" : "/sbin/ip",
                                          .argv = argv,
                                          .environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
                                          .stdin_fd = out.get(),
                                          .stdout_fd = STDERR_FILENO,
                                          .stderr_fd = STDERR_FILENO}));
  const Status wrote = WriteAll(in.get(), std::as_bytes(std::span(batch)), "commands for ip");
  in.reset();
  int status = 0;
  ::waitpid(child, &status, 0);
  MUSTER_TRY(wrote);
  if (status != 0)
    return Err(Code::kInternal, "ip: {}; it was told:\n{}", DescribeExit(status), batch);
  return {};
}

// Point-to-point routes on both sides: over a bridge, answers of services would not come back through the node.
Status MakeNetwork(pid_t pid, const PodAddress& address) {
  const std::string link = fmt::format("pod{}", pid);
  MUSTER_TRY(
      Ip(fmt::format("link add {0} type veth peer name eth0 netns {1}\naddr add {2}/32 dev {0}\n"
                     "link set {0} up\nroute add {3}/32 dev {0}\n",
                     link, pid, address.node, address.ip),
         0));
  return Ip(fmt::format("link set lo up\naddr add {0}/32 dev eth0\nlink set eth0 up\n"
                        "route add {1} dev eth0 scope link\nroute add default via {1}\n",
                        address.ip, address.node),
            pid);
}

// The next line from the other side, without its end; empty if none comes in time.
std::string ReadLine(int fd, int milliseconds) {
  std::string line;
  char c = 0;
  pollfd entry{.fd = fd, .events = POLLIN};
  while (::poll(&entry, 1, milliseconds) == 1 && ::read(fd, &c, 1) == 1) {
    if (c == '\n') return line;
    line += c;
  }
  return "";
}

void Mount(const char* type, const fs::path& target, unsigned long flags, const std::string& data) {
  Require(::mount(type, target.c_str(), type, flags, data.c_str()) == 0,
          fmt::format("mount {} on {}", type, target.string()));
}

void Bind(const char* source, const fs::path& target) {
  Require(::mount(source, target.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0,
          fmt::format("bind {}", source));
}

// Makes the pod's view of the files below a new root, and enters it.
void EnterFiles(const PodPlan& plan) {
  Require(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "mount /");
  const fs::path stage = "/mnt";  // hidden by the tmpfs in this pod's view only
  Mount("tmpfs", stage, 0, "mode=755");
  for (const char* name : {"upper", "work", "root"}) fs::create_directory(stage / name);
  const fs::path root = stage / "root";
  Mount("overlay", root, 0,
        fmt::format("lowerdir=/,upperdir={0}/upper,workdir={0}/work", stage.string()));
  Mount("proc", root / "proc", 0, "");
  Bind("/dev", root / "dev");
  Bind("/sys", root / "sys");
  if (!plan.launcher.empty()) {
    const fs::path seen = root / "usr/local/bin/launcher";
    const UniqueFd made(::open(seen.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
    Require(made.get() >= 0, "create " + seen.string());
    Bind(plan.launcher.c_str(), seen);
  }
  const fs::path build = fs::path(plan.launcher).parent_path().parent_path();
  const UniqueFd built(plan.launcher.empty() ? -1 : ::open(build.c_str(), O_PATH | O_CLOEXEC));
  Require(::chroot(root.c_str()) == 0 && ::chdir("/") == 0, "chroot");
  // Folders that are mounts of their own on the machine are empty in the overlay.
  for (const char* name : {"/run", "/tmp"}) Mount("tmpfs", name, 0, "mode=1777");
  for (const PodMount& mount : plan.mounts) {
    fs::create_directories(mount.path);
    Mount("tmpfs", mount.path, 0, "mode=1777");
    for (const PodFile& file : mount.files) {
      const fs::path path = fs::path(mount.path) / file.name;
      fs::create_directories(path.parent_path());
      std::FILE* out = std::fopen(path.c_str(), "w");
      Require(out != nullptr &&
                  std::fwrite(file.content.data(), 1, file.content.size(), out) ==
                      file.content.size() &&
                  std::fclose(out) == 0,
              "write " + path.string());
      ::chmod(path.c_str(), 0444);
    }
    if (mount.read_only) Mount("tmpfs", mount.path, MS_REMOUNT | MS_RDONLY, "");
  }
  // What was built with the launcher is where it is, also below a folder that a volume hides.
  if (built && !fs::exists(build)) {
    fs::create_directories(build);
    Bind(fmt::format("/proc/self/fd/{}", built.get()).c_str(), build);
  }
  if (plan.read_only_root) {
    Require(::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) == 0,
            "read-only root");
  }
}

[[noreturn]] void RunProgram(const PodPlan& plan) {
  EnterFiles(plan);
  Require(::setsid() > 0, "setsid");
  Require(::setgroups(0, nullptr) == 0 && ::setresgid(plan.group, plan.group, plan.group) == 0 &&
              ::setresuid(plan.user, plan.user, plan.user) == 0,
          "change of user");
  Require(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
  Require(::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0,
          "death signal");  // after the change of user, which clears it
  Require(::chdir(plan.working_dir.c_str()) == 0, "chdir " + plan.working_dir);
  std::vector<char*> argv;
  for (const std::string& word : plan.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  // Of this process, so that the program is looked for in its own PATH.
  ::clearenv();
  for (const std::string& entry : plan.environment) ::putenv(const_cast<char*>(entry.c_str()));
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int quiet = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(quiet, STDIN_FILENO);
  ::execvp(argv[0], argv.data());
  Require(false, fmt::format("cannot run {}", plan.argv[0]));
  std::_Exit(128);
}

}  // namespace

Result<pid_t> StartPod(const PodPlan& plan, const PodAddress& address, int output) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return Err(Code::kInternal, "socketpair: {}", std::strerror(errno));
  }
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  MUSTER_ASSIGN(const pid_t pid, Spawn({.executable = "/proc/self/exe",
                                        .argv = {"pod", kPodInit},
                                        .stdin_fd = theirs.get(),
                                        .stdout_fd = output,
                                        .stderr_fd = output}));
  theirs.reset();
  const auto start = [&]() -> Status {
    const std::string text = plan.ToJson() + "\n";
    MUSTER_TRY(WriteAll(ours.get(), std::as_bytes(std::span(text)), "plan of a pod"));
    if (ReadLine(ours.get(), kNetworkMilliseconds) != "confined") {
      return Err(Code::kInternal, "the pod's first process has failed, see its log");
    }
    MUSTER_TRY(MakeNetwork(pid, address));
    return WriteAll(ours.get(), std::as_bytes(std::span("go\n", 3)), "start of a pod");
  };
  if (const Status started = start(); !started) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return tl::unexpected(started.error());
  }
  return pid;
}

int RunPodInit() {
  std::string text;
  char c = 0;
  while (::read(STDIN_FILENO, &c, 1) == 1 && c != '\n') text += c;
  const PodPlan plan = PodPlan::FromJson(text);
  sigset_t handled;
  sigfillset(&handled);
  ::sigprocmask(SIG_SETMASK, &handled, nullptr);
  Require(::unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET) == 0, "unshare");
  Require(::write(STDIN_FILENO, "confined\n", 9) == 9, "answer to the node");
  if (ReadLine(STDIN_FILENO, kNetworkMilliseconds) != "go") return 128;

  const pid_t program = ::fork();
  Require(program >= 0, "fork");
  if (program == 0) RunProgram(plan);
  for (;;) {
    int signal = 0;
    ::sigwait(&handled, &signal);
    int status = 0;
    if (::waitpid(program, &status, WNOHANG) == program) {
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (signal != SIGCHLD) ::kill(program, signal);
  }
}

}  // namespace muster::cluster
