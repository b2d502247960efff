#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "launcher/process/spawn.h"
#include "launcher/process/tree.h"
#include "runtime/base/environment.h"
#include "runtime/base/unique_fd.h"

namespace muster {
namespace {

SpawnSpec Shell(const std::string& script) {
  SpawnSpec spec;
  spec.executable = "/bin/sh";
  spec.argv = {"sh", "-c", script};
  spec.environment = EnvironmentWith({});
  return spec;
}

std::string ReadAll(int fd) {
  std::string text;
  char buffer[256];
  ssize_t got;
  while ((got = ::read(fd, buffer, sizeof buffer)) > 0) text.append(buffer, got);
  return text;
}

TEST(Spawn, RunsTheProgramWithItsArgumentsEnvironmentAndFolder) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  SpawnSpec spec = Shell("printf '%s %s %s' \"$PWD\" \"$COLOUR\" \"$0\"");
  spec.argv.push_back("two words");
  spec.environment = EnvironmentWith({"COLOUR=green"});
  spec.cwd = "/";
  spec.stdout_fd = ends[1];
  const auto pid = Spawn(spec);
  ASSERT_TRUE(pid) << pid.error().ToString();
  ::close(ends[1]);
  EXPECT_EQ(ReadAll(ends[0]), "/ green two words");
  int status = 0;
  EXPECT_EQ(::waitpid(*pid, &status, 0), *pid);
  EXPECT_EQ(status, 0);
  ::close(ends[0]);
}

TEST(Spawn, NamesAProgramThatIsNotThere) {
  SpawnSpec spec = Shell("");
  spec.executable = "/nowhere/at-all";
  const auto pid = Spawn(spec);
  ASSERT_FALSE(pid);
  EXPECT_EQ(pid.error().code, Code::kNotFound);
  EXPECT_EQ(pid.error().message, "cannot start /nowhere/at-all: No such file or directory");
}

TEST(Spawn, SaysThatATextFileIsNoProgram) {
  const std::string path = ::testing::TempDir() + "/not-a-program";
  std::ofstream(path) << "just text\n";
  ASSERT_EQ(::chmod(path.c_str(), 0755), 0);
  SpawnSpec spec = Shell("");
  spec.executable = path;
  const auto pid = Spawn(spec);
  ASSERT_FALSE(pid);
  EXPECT_EQ(pid.error().code, Code::kInvalidArgument);
}

TEST(Spawn, LeavesNoOtherDescriptorOpenInTheChild) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);  // without O_CLOEXEC, on purpose
  SpawnSpec spec = Shell("ls /proc/self/fd | wc -l");
  spec.stdout_fd = ends[1];
  const auto pid = Spawn(spec);
  ASSERT_TRUE(pid);
  ::close(ends[1]);
  // 0, 1, 2 and the folder that ls reads.
  EXPECT_EQ(ReadAll(ends[0]), "4\n");
  ::waitpid(*pid, nullptr, 0);
  ::close(ends[0]);
}

TEST(Spawn, ReplacesAVariableOfOurEnvironment) {
  ::setenv("SPAWN_TEST", "old", 1);
  const auto environment = EnvironmentWith({"SPAWN_TEST=new"});
  EXPECT_EQ(std::count(environment.begin(), environment.end(), "SPAWN_TEST=new"), 1);
  EXPECT_EQ(std::count(environment.begin(), environment.end(), "SPAWN_TEST=old"), 0);
}

TEST(Spawn, DescribesHowAProcessEnded) {
  EXPECT_EQ(DescribeExit(3 << 8), "exit code 3");
  EXPECT_EQ(DescribeExit(SIGSEGV), "SIGSEGV (Segmentation fault)");
}

TEST(Tree, KillsGrandchildrenThatHaveLeftTheirSession) {
  ASSERT_TRUE(BecomeSubreaper());
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  // The grandchild is orphaned at once and sits in a session of its own; it holds the pipe until it
  // is killed.
  SpawnSpec spec = Shell("setsid sh -c 'echo ready; exec sleep 1000' & exit 0");
  spec.stdout_fd = ends[1];
  ASSERT_TRUE(Spawn(spec));
  ::close(ends[1]);
  char ready[6];
  ASSERT_EQ(::read(ends[0], ready, 6), 6);
  int reaped = 0;
  const auto left =
      KillDescendants({}, MonotonicNow() + std::chrono::seconds(10), [&](pid_t, int) { ++reaped; });
  EXPECT_TRUE(left.empty());
  EXPECT_EQ(ReadAll(ends[0]), "");  // ends only if nobody holds the other end
  EXPECT_TRUE(Descendants(::getpid()).empty());
  ::close(ends[0]);
}

TEST(Tree, SparesTheTreesItIsToldTo) {
  const auto pid = Spawn(Shell("sleep 1000 & wait"));
  ASSERT_TRUE(pid);
  EXPECT_TRUE(Descendants(::getpid(), {*pid}).empty());
  EXPECT_FALSE(Descendants(::getpid()).empty());
  KillDescendants({}, MonotonicNow() + std::chrono::seconds(10), [](pid_t, int) {});
  EXPECT_FALSE(IsAlive(*pid));
}

}  // namespace
}  // namespace muster
