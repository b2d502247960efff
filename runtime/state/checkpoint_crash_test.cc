// Writers that are killed, run out of disk or lack rights.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>

#include "runtime/state/checkpoint.h"
#include "runtime/state/checkpoint_test_util.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

// "code message" of an error.
std::string Describe(const Status& status) {
  if (status) return "no error";
  return fmt::format("{}: {}", CodeName(status.error().code), status.error().message);
}

const std::vector<TensorSpec> kTensors = {{"w", "F32", {30000}}, {"e", "I16", {30}}};

// Runs `work` in a forked child and kills it, as kill -9 does, right before it makes its system call number `calls` (0 is the
// first): files change by system calls only, so these are all the moments at which a writer can die. Returns what became of
// the child: "killed", "ended" if it made fewer calls, or why it could not be watched.
std::string KillBeforeSystemCall(int calls, const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(1);
    ::raise(SIGSTOP);
    work();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSTOPPED(status)) return fmt::format("no ptrace: {}", std::strerror(errno));
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  // Every call stops it twice, on entry and on return.
  for (int stops = 0; stops <= 2 * calls;) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) return WEXITSTATUS(status) == 0 ? "ended" : "failed";
    if (WIFSIGNALED(status)) return fmt::format("ended by signal {}", WTERMSIG(status));
    if (WSTOPSIG(status) == (SIGTRAP | 0x80)) ++stops;
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return "killed";
}

TEST(CheckpointCrash, TheNewestListedOneLoadsWhereverTheWriterIsKilled) {
  const TemporaryFolder folder;
  ASSERT_TRUE(WriteCheckpoint(folder.path(), StateAt(1, kTensors), SomeFacts(), 2));
  uint64_t newest = 1;
  int with_leftovers = 0;
  std::string end = "killed";
  for (int calls = 0; end == "killed"; ++calls) {
    SCOPED_TRACE(testing::Message() << "killed before system call " << calls);
    // One step again and the next one: replaces, publishes, removes the oldest, and what the dead have left.
    end = KillBeforeSystemCall(calls, [&] {
      for (const uint64_t step : {newest, newest + 1}) {
        if (!WriteCheckpoint(folder.path(), StateAt(step, kTensors), SomeFacts(), 2)) ::_exit(1);
      }
    });
    if (end.starts_with("no ptrace")) GTEST_SKIP() << end;
    const auto names = folder.Names();
    with_leftovers += std::ranges::any_of(names, [](const auto& n) { return n.starts_with('.'); });
    const auto entries = ListCheckpoints(folder.path());
    ASSERT_FALSE(entries.empty());
    ASSERT_GE(entries[0].step, newest) << "a checkpoint that was there has gone";
    newest = entries[0].step;
    State state(kTensors);
    const Status loaded = LoadCheckpoint(entries[0].folder, SomeFacts(), state);
    ASSERT_TRUE(loaded) << loaded.error().ToString();
    ASSERT_TRUE(SameBits(state, StateAt(newest, kTensors)));
  }
  EXPECT_EQ(end, "ended");
  EXPECT_GT(newest, 2u) << "no writer was killed after it had published";
  EXPECT_GT(with_leftovers, 0) << "no writer was killed in the middle";
  ASSERT_TRUE(WriteCheckpoint(folder.path(), StateAt(newest + 1), SomeFacts(), 1));
  EXPECT_EQ(folder.Names().size(), 1u) << "leftovers of the dead were not removed";
}

TEST(CheckpointCrash, AFileSizeLimitIsAnErrorThatNamesTheFileAndLeavesNothing) {
  const TemporaryFolder folder;
  ASSERT_TRUE(WriteCheckpoint(folder.path(), StateAt(1), SomeFacts()));
  const auto before = folder.Names();
  const std::string result = InChild([&]() -> std::string {
    const rlimit limit = {100000, 100000};
    ::signal(SIGXFSZ, SIG_IGN);
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return "no limit";
    const State state = StateAt(2, {{"w", "F32", {1 << 20}}});
    return Describe(WriteCheckpoint(folder.path(), state, SomeFacts()));
  });
  if (result == "no limit") GTEST_SKIP() << "RLIMIT_FSIZE cannot be set here";
  EXPECT_TRUE(result.starts_with("resource exhausted: cannot write ")) << result;
  EXPECT_NE(result.find("state.safetensors: File too large"), std::string::npos) << result;
  EXPECT_EQ(folder.Names(), before);
}

// A tmpfs of 1 MiB that only this process sees, or why there is none.
std::string MountSmallDisk(const fs::path& at) {
  if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
    return fmt::format("no mount namespace: {}", std::strerror(errno));
  }
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("none", at.c_str(), "tmpfs", 0, "size=1m") != 0) {
    return fmt::format("no tmpfs: {}", std::strerror(errno));
  }
  return "";
}

TEST(CheckpointCrash, AFullDiskIsAnErrorThatNamesTheFileAndLeavesNothing) {
  const TemporaryFolder folder;
  const std::string result = InChild([&]() -> std::string {
    const std::string no_disk = MountSmallDisk(folder.path());
    if (!no_disk.empty()) return "skip: " + no_disk;
    const Status small = WriteCheckpoint(folder.path(), StateAt(1), SomeFacts());
    const State large = StateAt(2, {{"w", "F32", {1 << 20}}});
    const Status full = WriteCheckpoint(folder.path(), large, SomeFacts());
    return fmt::format("{} / {} / {} left", Describe(small), Describe(full), folder.Names().size());
  });
  if (result.starts_with("skip: ")) GTEST_SKIP() << result.substr(6);
  EXPECT_TRUE(result.starts_with("no error / resource exhausted: cannot write ")) << result;
  EXPECT_NE(result.find("state.safetensors: No space left on device / 1 left"), std::string::npos)
      << result;
}

// Runs `work` without the right to pass over permissions.
std::string AsNobody(const std::function<std::string()>& work) {
  return InChild([&]() -> std::string {
    constexpr uid_t kNobody = 65534;
    if (::geteuid() == 0 && ::setresuid(kNobody, kNobody, kNobody) != 0) return "skip: setresuid";
    return work();
  });
}

TEST(CheckpointCrash, AFolderWithoutRightsIsPermissionDeniedWithItsPath) {
  const TemporaryFolder folder;
  ASSERT_TRUE(WriteCheckpoint(folder.path(), StateAt(1), SomeFacts()));
  ASSERT_EQ(::chmod(folder.path().c_str(), 0), 0);
  const std::string written =
      AsNobody([&] { return Describe(WriteCheckpoint(folder.path(), StateAt(2), SomeFacts())); });
  const std::string loaded = AsNobody([&]() -> std::string {
    State state(SomeTensors());
    const auto newest = LoadNewestCheckpoint(folder.path(), SomeFacts(), state);
    return newest ? "loaded" : Describe(tl::unexpected(newest.error()));
  });
  ASSERT_EQ(::chmod(folder.path().c_str(), 0700), 0);
  if (written.starts_with("skip")) GTEST_SKIP() << written;
  const std::string expected = "permission denied: cannot list " + folder.path().string();
  EXPECT_TRUE(written.starts_with(expected)) << written;
  EXPECT_TRUE(loaded.starts_with(expected)) << "must not look like an empty folder: " << loaded;
}

TEST(CheckpointCrash, AReadOnlyFolderIsPermissionDeniedWithItsPath) {
  const TemporaryFolder folder;
  ASSERT_EQ(::chmod(folder.path().c_str(), 0555), 0);
  const std::string written =
      AsNobody([&] { return Describe(WriteCheckpoint(folder.path(), StateAt(2), SomeFacts())); });
  ASSERT_EQ(::chmod(folder.path().c_str(), 0700), 0);
  if (written.starts_with("skip")) GTEST_SKIP() << written;
  EXPECT_TRUE(written.starts_with("permission denied: cannot create " + folder.path().string()))
      << written;
}

TEST(CheckpointCrash, AFileInPlaceOfTheFolderIsAnErrorWithItsPath) {
  const TemporaryFolder folder;
  Overwrite(folder.path() / "file", "");
  const Status status = WriteCheckpoint(folder.path() / "file", StateAt(1), SomeFacts());
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find((folder.path() / "file").string()), std::string::npos);
}

}  // namespace
}  // namespace muster
