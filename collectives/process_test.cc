// The backends between real processes, which die and stop in the middle of an operation. That of NCCL runs on the stand-ins of
// tests/cuda, which MUSTER_LIBCUDA and MUSTER_LIBNCCL name.
//
// The test runs itself again as `--rank`: such a child obeys lines on its standard input and answers with lines.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <sstream>

#include "collectives/conformance_fixture.h"
#include "collectives/nccl/nccl.h"
#include "runtime/base/log.h"
#include "runtime/base/pause.h"
#include "runtime/base/unique_fd.h"

extern char** environ;

namespace muster {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// --- The child.

// What a rank adds up, and how.
class Lanes {
 public:
  virtual ~Lanes() = default;
  virtual std::span<int32_t> values() = 0;
  virtual Status Sum(Communicator& communicator) = 0;
};

class HostLanes : public Lanes {
 public:
  explicit HostLanes(Backend& backend) {
    const auto memory = backend.Allocate(kCount * sizeof(int32_t)).value();
    values_ = {reinterpret_cast<int32_t*>(memory.data()), kCount};
  }
  std::span<int32_t> values() override { return values_; }
  Status Sum(Communicator& communicator) override {
    return communicator.AllReduce(values_, ReduceOp::kSum);
  }

 private:
  static constexpr size_t kCount = 2 << 20;
  std::span<int32_t> values_;
};

class DeviceLanes : public Lanes {
 public:
  explicit DeviceLanes(cuda::Device& device)
      : device_(device),
        memory_(device.Allocate(kCount * sizeof(int32_t)).value()),
        bytes_(device.AllocateHost(kCount * sizeof(int32_t)).value()),
        stream_(device.MakeStream().value()),
        event_(device.MakeEvent().value()) {}
  std::span<int32_t> values() override {
    return {reinterpret_cast<int32_t*>(bytes_.data()), kCount};
  }
  Status Sum(Communicator& communicator) override {
    MUSTER_TRY(device_.CopyIn(memory_, bytes_, stream_));
    MUSTER_TRY(
        communicator.device()->Sum(memory_, kCount, DeviceCollectives::Lane::kInt32, stream_));
    MUSTER_TRY(device_.CopyOut(bytes_, memory_, stream_));
    MUSTER_TRY(device_.Record(event_, stream_));
    return communicator.device()->Await(event_);
  }

 private:
  static constexpr size_t kCount = 1 << 16;
  cuda::Device& device_;
  cuda::DevicePointer memory_;
  std::span<std::byte> bytes_;
  cuda::Stream stream_;
  cuda::Event event_;
};

class Rank {
 public:
  // Kinds: "shared", "tcp", "nccl".
  explicit Rank(const std::string& kind) {
    backend_ =
        CreateHostBackend(TestHostOptions(kind == "shared" ? Kind::kHostShared : Kind::kHostTcp))
            .value();
    if (kind != "nccl") {
      lanes_ = std::make_unique<HostLanes>(*backend_);
      return;
    }
    device_ = cuda::Device::Open(0).value();
    backend_ = CreateNcclBackend(std::move(backend_), *device_).value();
    lanes_ = std::make_unique<DeviceLanes>(*device_);
  }

  void Serve() {
    Answer(backend_->address());
    for (std::string line; std::getline(std::cin, line);) {
      std::istringstream words(line);
      std::string command;
      words >> command;
      if (command == "connect") Connect(words);
      if (command == "sum") Sum(words);
      if (command == "rest") Rest(words);
      if (command == "close") communicator_.reset();
    }
  }

 private:
  static void Answer(const std::string& text) { std::cout << text << std::endl; }

  // connect GENERATION RANK HEARTBEAT_TIMEOUT_MS (ID ADDRESS)...
  void Connect(std::istringstream& words) {
    ConnectRequest request;
    int64_t timeout_ms = 0;
    words >> request.generation >> request.rank >> timeout_ms;
    request.heartbeat_timeout = milliseconds(timeout_ms);
    for (Peer peer; words >> peer.id >> peer.address;) request.peers.push_back(peer);
    auto communicator = backend_->Connect(request, {});
    if (!communicator) return Answer("error " + communicator.error().message);
    communicator_ = std::move(*communicator);
    Answer("connected");
  }

  // sum ROUNDS: says "running" after the first round and checks the result of each.
  void Sum(std::istringstream& words) {
    int rounds = 0;
    words >> rounds;
    const int size = communicator_->size();
    for (int round = 0; round < rounds; ++round) {
      const int32_t base = static_cast<int32_t>(communicator_->generation()) * 1000 + round;
      std::ranges::fill(lanes_->values(), base + communicator_->rank());
      const Status status = lanes_->Sum(*communicator_);
      if (!status) {
        return Answer(fmt::format("{} lost {} because {}", CodeName(status.error().code),
                                  communicator_->lost_peer().value_or(-1),
                                  communicator_->revoke_reason()));
      }
      const int32_t expected = size * base + size * (size - 1) / 2;
      const auto right = [expected](int32_t v) { return v == expected; };
      if (!std::ranges::all_of(lanes_->values(), right)) return Answer("wrong sum");
      if (round == 0) Answer("running");
    }
    Answer("done");
  }

  // rest MS: takes part in nothing for so long.
  static void Rest(std::istringstream& words) {
    int64_t time_ms = 0;
    words >> time_ms;
    (void)PauseFor(milliseconds(time_ms), {});
  }

  std::unique_ptr<cuda::Device> device_;  // of nccl
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Lanes> lanes_;
  std::unique_ptr<Communicator> communicator_;
};

// --- The parent.

class Child {
 public:
  explicit Child(std::string kind) {
    int input[2], output[2];
    EXPECT_EQ(::pipe2(input, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(output, O_CLOEXEC), 0);
    input_ = UniqueFd(input[1]);
    output_ = UniqueFd(output[0]);
    const UniqueFd child_input(input[0]), child_output(output[1]);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, input[0], 0);
    ::posix_spawn_file_actions_adddup2(&actions, output[1], 1);
    std::string program = "/proc/self/exe", role = "--rank";
    char* arguments[] = {program.data(), role.data(), kind.data(), nullptr};
    EXPECT_EQ(::posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments, environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    address_ = Read();
  }
  Child(Child&&) = delete;
  ~Child() {
    Signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  const std::string& address() const { return address_; }
  void Signal(int signal) { ::kill(pid_, signal); }

  void Write(std::string line) {
    line += '\n';
    EXPECT_EQ(::write(input_.get(), line.data(), line.size()), static_cast<ssize_t>(line.size()));
  }

  // The next line, or "" if none comes within five minutes or the child has ended.
  std::string Read() {
    while (buffer_.find('\n') == std::string::npos) {
      pollfd entry{.fd = output_.get(), .events = POLLIN};
      char bytes[4096];
      if (::poll(&entry, 1, 300'000) <= 0) return "";
      const ssize_t got = ::read(output_.get(), bytes, sizeof(bytes));
      if (got <= 0) return "";
      buffer_.append(bytes, static_cast<size_t>(got));
    }
    const size_t end = buffer_.find('\n');
    std::string line = buffer_.substr(0, end);
    buffer_.erase(0, end + 1);
    return line;
  }

 private:
  pid_t pid_ = -1;
  UniqueFd input_;
  UniqueFd output_;
  std::string buffer_;
  std::string address_;
};

class Processes : public testing::TestWithParam<std::string> {
 protected:
  void Start(int size) {
    for (int i = 0; i < size; ++i) children_.push_back(std::make_unique<Child>(GetParam()));
  }
  Child& child(int index) { return *children_[static_cast<size_t>(index)]; }

  // Builds a generation of these children, in rank order.
  void Connect(uint64_t generation, const std::vector<int>& members,
               Duration heartbeat_timeout = seconds(60)) {
    std::string peers;
    for (const int m : members) peers += fmt::format(" w-{} {}", m, child(m).address());
    for (size_t rank = 0; rank < members.size(); ++rank) {
      child(members[rank])
          .Write(fmt::format("connect {} {} {}{}", generation, rank,
                             static_cast<int64_t>(Milliseconds(heartbeat_timeout)), peers));
    }
    for (const int m : members) ASSERT_EQ(child(m).Read(), "connected");
  }

  void StartSums(const std::vector<int>& members, int rounds) {
    for (const int m : members) child(m).Write(fmt::format("sum {}", rounds));
    for (const int m : members) ASSERT_EQ(child(m).Read(), "running");
  }

  std::vector<std::unique_ptr<Child>> children_;
};

INSTANTIATE_TEST_SUITE_P(Transports, Processes, testing::Values("shared", "tcp", "nccl"),
                         [](const auto& info) { return info.param; });

constexpr int kEndless = 1'000'000;

TEST_P(Processes, SurvivorsOfAKillInTheMiddleNameTheLostRankAtOnce) {
  for (int victim = 0; victim < 4; ++victim) {
    children_.clear();
    Start(4);
    Connect(1, {0, 1, 2, 3});
    StartSums({0, 1, 2, 3}, kEndless);
    child(victim).Signal(SIGKILL);
    const TimePoint killed = MonotonicNow();
    for (int i = 0; i < 4; ++i) {
      if (i == victim) continue;
      EXPECT_EQ(child(i).Read(), fmt::format("aborted lost {0} because peer {0} (w-{0}) closed the "
                                             "connection",
                                             victim));
    }
    const Duration noticed = MonotonicNow() - killed;
    RecordProperty("noticed_ms", fmt::format("{:.1f}", Milliseconds(noticed)));
    std::cout << fmt::format("all survivors had returned {:.1f} ms after the kill\n",
                             Milliseconds(noticed));
    EXPECT_LT(noticed, seconds(10)) << "far below the operation timeout";
  }
}

TEST_P(Processes, AStoppedRankIsNamedAndCannotHarmTheNextGenerationWhenItWakes) {
  Start(4);
  Connect(1, {0, 1, 2, 3}, seconds(3));
  StartSums({0, 1, 2, 3}, kEndless);
  child(2).Signal(SIGSTOP);
  int deadlines = 0;
  for (const int i : {0, 1, 3}) {
    const std::string answer = child(i).Read();
    EXPECT_NE(answer.find("lost 2 because no sign of life for 3.0 s"), std::string::npos) << answer;
    EXPECT_NE(answer.find("w-2"), std::string::npos) << answer;
    if (answer.starts_with("deadline exceeded")) ++deadlines;
  }
  EXPECT_GE(deadlines, 1);

  Connect(2, {0, 1, 3});
  for (const int i : {0, 1, 3}) child(i).Write("sum 30");
  for (const int i : {0, 1, 3}) EXPECT_EQ(child(i).Read(), "running");
  child(2).Signal(SIGCONT);
  for (const int i : {0, 1, 3}) EXPECT_EQ(child(i).Read(), "done") << "survivor " << i;
  // Who was evicted is in the frame that the survivors sent; over TCP a reset can overtake it.
  const std::string woken = child(2).Read();
  EXPECT_TRUE(woken.starts_with("aborted")) << woken;
}

// It rests three times as long as a stopped rank would be waited for.
TEST_P(Processes, ARankThatIsBusyElsewhereIsWaitedFor) {
  Start(3);
  Connect(1, {0, 1, 2}, seconds(2));
  child(1).Write("rest 6000");
  StartSums({0, 1, 2}, 3);
  for (const int i : {0, 1, 2}) EXPECT_EQ(child(i).Read(), "done");
}

TEST_P(Processes, GrowAndShrinkByGenerationsKeepTheSameProcesses) {
  Start(3);
  Connect(1, {0});
  Connect(2, {0, 1});
  StartSums({0, 1}, 3);
  for (const int i : {0, 1}) EXPECT_EQ(child(i).Read(), "done");
  Connect(3, {2, 0, 1});
  StartSums({0, 1, 2}, 3);
  for (const int i : {0, 1, 2}) EXPECT_EQ(child(i).Read(), "done");
  child(0).Write("close");
  Connect(4, {1, 2});
  StartSums({1, 2}, 3);
  for (const int i : {1, 2}) EXPECT_EQ(child(i).Read(), "done");
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--rank") == 0) {
    muster::InitLog("rank");  // to stderr: stdout is for answers
    muster::Rank(argv[2]).Serve();
    return 0;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
