#include "launcher/rendezvous/journal.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <map>

#include "runtime/base/files.h"

namespace muster {
namespace {

class JournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "muster-journal-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    path_ = folder_ / "journal";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Journal> Open() {
    auto journal = Journal::Open(path_);
    EXPECT_TRUE(journal) << journal.error().message;
    return journal ? std::move(*journal) : nullptr;
  }
  std::string Bytes() { return *ReadFile(path_); }
  void SetBytes(const std::string& bytes) { ASSERT_TRUE(WriteFileAtomically(path_, bytes)); }

  static CoordinatorState State(uint64_t generation) {
    CoordinatorState state;
    state.last_generation = generation;
    state.active =
        Generation{generation, {{"w-0", 7, "127.0.0.1:1"}, {"w-1", UINT64_MAX, "\xC3\xA9"}}};
    state.proposed = Generation{generation + 1, {{"w-2", 9, ""}}};
    state.min_workers = 2;
    state.max_workers = 5;
    state.slots = {"w-0", "w-1", "w-2"};
    state.dismissed = {{"w-3", 2}, {"w-9", UINT64_MAX}};
    state.started = true;
    state.stop_requested = true;
    state.stop_reason = "because";
    state.generations = 3;
    state.best_step = UINT64_MAX;
    state.total_steps = 400;
    state.micro_batches = 16;
    state.batch_size = 8;
    return state;
  }
  static uint64_t GenerationIn(const Journal& journal) {
    return journal.content().state ? journal.content().state->last_generation : 0;
  }

  std::filesystem::path folder_;
  std::filesystem::path path_;
};

TEST_F(JournalTest, IsEmptyAtFirst) {
  const auto journal = Open();
  EXPECT_FALSE(journal->content().state);
  EXPECT_EQ(journal->content().port, 0);
}

TEST_F(JournalTest, GivesBackEveryField) {
  ASSERT_TRUE(Open()->Append(State(4)));
  const auto journal = Open();
  ASSERT_TRUE(journal->content().state);
  const CoordinatorState& read = *journal->content().state;
  const CoordinatorState wrote = State(4);
  EXPECT_EQ(read.last_generation, wrote.last_generation);
  EXPECT_EQ(read.active, wrote.active);
  EXPECT_EQ(read.proposed, wrote.proposed);
  EXPECT_EQ(read.min_workers, wrote.min_workers);
  EXPECT_EQ(read.max_workers, wrote.max_workers);
  EXPECT_EQ(read.slots, wrote.slots);
  EXPECT_EQ(read.dismissed, wrote.dismissed);
  EXPECT_EQ(read.started, wrote.started);
  EXPECT_EQ(read.stop_requested, wrote.stop_requested);
  EXPECT_EQ(read.stop_reason, wrote.stop_reason);
  EXPECT_EQ(read.generations, wrote.generations);
  EXPECT_EQ(read.best_step, wrote.best_step);
  EXPECT_EQ(read.total_steps, wrote.total_steps);
  EXPECT_EQ(read.micro_batches, wrote.micro_batches);
  EXPECT_EQ(read.batch_size, wrote.batch_size);
}

TEST_F(JournalTest, KeepsPortAndStateApart) {
  {
    const auto journal = Open();
    ASSERT_TRUE(journal->SavePort(4711));
    ASSERT_TRUE(journal->Append(State(1)));
    ASSERT_TRUE(journal->SavePort(4712));
  }
  const auto journal = Open();
  EXPECT_EQ(journal->content().port, 4712);
  EXPECT_EQ(GenerationIn(*journal), 1u);
}

// A crash may leave any prefix of the last record; whatever it is, the record before counts and the next one fits.
TEST_F(JournalTest, IgnoresATornLastRecordCutAtAnyByte) {
  size_t whole = 0;
  {
    const auto journal = Open();
    ASSERT_TRUE(journal->Append(State(1)));
    whole = Bytes().size();
    ASSERT_TRUE(journal->Append(State(2)));
  }
  const std::string bytes = Bytes();
  for (size_t cut = whole; cut < bytes.size(); ++cut) {
    SCOPED_TRACE(cut);
    SetBytes(bytes.substr(0, cut));
    {
      const auto journal = Open();
      ASSERT_EQ(GenerationIn(*journal), 1u);
      ASSERT_TRUE(journal->Append(State(3)));
    }
    ASSERT_EQ(GenerationIn(*Open()), 3u);
  }
}

TEST_F(JournalTest, StartsAgainFromATornBeginning) {
  Open();
  const std::string bytes = Bytes();
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    SetBytes(bytes.substr(0, cut));
    ASSERT_TRUE(Open()->Append(State(3)));
    ASSERT_EQ(GenerationIn(*Open()), 3u);
  }
}

// A byte that has flipped costs its own record only.
TEST_F(JournalTest, PassesOverARecordWithAFlippedByte) {
  size_t begin = 0;
  size_t end = 0;
  {
    const auto journal = Open();
    ASSERT_TRUE(journal->Append(State(1)));
    begin = Bytes().size();
    ASSERT_TRUE(journal->Append(State(2)));
    end = Bytes().size();
    ASSERT_TRUE(journal->Append(State(3)));
  }
  const std::string bytes = Bytes();
  for (size_t at = begin; at < end; ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    SetBytes(damaged);
    ASSERT_EQ(GenerationIn(*Open()), 3u) << at;
    SetBytes(damaged.substr(0, end));
    ASSERT_EQ(GenerationIn(*Open()), 1u) << at;
  }
}

TEST_F(JournalTest, RefusesAStateThatNoCoordinatorCanGoOnFrom) {
  for (const auto& [field, break_it] :
       std::map<std::string, std::function<void(CoordinatorState&)>>{
           {"max_workers is 2000000000", [](auto& state) { state.max_workers = 2'000'000'000; }},
           {"max_workers is -1", [](auto& state) { state.max_workers = -1; }},
           {"min_workers is 6", [](auto& state) { state.min_workers = 6; }},
           {"last_generation is 18446744073709551615",
            [](auto& state) { state.last_generation = UINT64_MAX; }},
           {"micro_batches is -16", [](auto& state) { state.micro_batches = -16; }}}) {
    std::filesystem::remove(path_);
    CoordinatorState state = State(1);
    break_it(state);
    ASSERT_TRUE(Open()->Append(state));
    const auto journal = Journal::Open(path_);
    ASSERT_FALSE(journal) << field;
    EXPECT_EQ(journal.error().code, Code::kDataLoss);
    EXPECT_NE(journal.error().message.find(field), std::string::npos) << journal.error().message;
  }
}

TEST_F(JournalTest, RefusesAFileThatIsNone) {
  SetBytes("a shopping list\n");
  const auto journal = Journal::Open(path_);
  ASSERT_FALSE(journal);
  EXPECT_EQ(journal.error().code, Code::kDataLoss);
}

TEST_F(JournalTest, RefusesASecondOpenerUntilTheFirstHasGone) {
  auto first = Open();
  const auto second = Journal::Open(path_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kFailedPrecondition);
  EXPECT_NE(second.error().message.find("another coordinator"), std::string::npos);
  first.reset();
  EXPECT_TRUE(Journal::Open(path_));
}

TEST_F(JournalTest, IsFreedByTheDeathOfItsOwner) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t owner = ::fork();
  if (owner == 0) {
    const auto journal = Journal::Open(path_);
    (void)!::write(ready[1], journal ? "y" : "n", 1);
    while (true) ::pause();
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  EXPECT_FALSE(Journal::Open(path_));
  ::kill(owner, SIGKILL);
  ASSERT_EQ(::waitpid(owner, nullptr, 0), owner);
  EXPECT_TRUE(Journal::Open(path_));
}

TEST_F(JournalTest, StaysSmallAndLockedThroughCompaction) {
  CoordinatorState state = State(1);
  state.stop_reason = std::string(100'000, 'x');
  auto journal = Open();
  ASSERT_TRUE(journal->SavePort(4711));
  for (uint64_t generation = 1; generation <= 40; ++generation) {
    state.last_generation = generation;
    ASSERT_TRUE(journal->Append(state));
    ASSERT_LT(Bytes().size(), Journal::kCompactBytes + 200'000);
    ASSERT_FALSE(Journal::Open(path_)) << "unlocked at generation " << generation;
  }
  journal.reset();
  const auto again = Open();
  EXPECT_EQ(GenerationIn(*again), 40u);
  EXPECT_EQ(again->content().port, 4711);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1)
      << "a temporary file is left";
}

// A limit on the file's size stands for a full disk: the write fails, nothing else changes.
TEST_F(JournalTest, HoldsWhatItHeldWhenTheDiskIsFull) {
  auto journal = Open();
  ASSERT_TRUE(journal->Append(State(1)));
  const rlimit room{Bytes().size() + 10, RLIM_INFINITY};
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &room);
  const Status refused = journal->Append(State(2));
  ::setrlimit(RLIMIT_FSIZE, &before);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("cannot write"), std::string::npos);
  EXPECT_EQ(GenerationIn(*journal), 1u);
  ASSERT_TRUE(journal->Append(State(3)));
  journal.reset();
  EXPECT_EQ(GenerationIn(*Open()), 3u);
}

}  // namespace
}  // namespace muster
