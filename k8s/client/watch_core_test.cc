#include "k8s/client/watch_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::k8s {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

json Pod(const std::string& name, const std::string& version, const std::string& uid = "") {
  return {{"metadata",
           {{"namespace", "ml"},
            {"name", name},
            {"uid", uid.empty() ? "uid of " + name : uid},
            {"resourceVersion", version}}}};
}

WatchEvent Event(const std::string& type, const json& object) {
  return {{{"type", type}, {"object", object}}};
}

WatchEvent Bookmark(const std::string& version) {
  return Event("BOOKMARK", {{"metadata", {{"resourceVersion", version}}}});
}

Error Broken(Code code = Code::kUnavailable) { return {code, "broken", ""}; }

// "+a1 ~a2 -a2" for added, modified, deleted, with name and version.
std::vector<std::string> Story(const WatchOutput& output) {
  std::vector<std::string> story;
  for (const Change& change : output.changes) {
    const json& meta = (*change.object)["metadata"];
    const char* kind = change.kind == ChangeKind::kAdded      ? "+"
                       : change.kind == ChangeKind::kModified ? "~"
                                                              : "-";
    story.push_back(fmt::format("{}{}{}", kind, meta["name"].get<std::string>(),
                                meta["resourceVersion"].get<std::string>()));
  }
  return story;
}

class WatchCoreTest : public ::testing::Test {
 protected:
  template <typename Input>
  WatchOutput Handle(const Input& input) {
    return core_.Handle(input, now_);
  }
  // Waits until the core wants to be asked.
  WatchOutput Wake() {
    now_ = std::max(now_, core_.wake());
    return Handle(Tick{});
  }
  // Lists `pods` as of version 10 and opens the watch.
  WatchOutput Begin(std::vector<json> pods) {
    EXPECT_TRUE(Handle(Tick{}).list);
    return Handle(ListDone{std::move(pods), "10"});
  }

  const WatchTimes times_{.idle_timeout = 60s,
                          .relist_period = 10min,
                          .short_watch = 1s,
                          .backoff = {.first = 100ms, .cap = 10s}};
  TimePoint now_ = TimePoint() + 1000s;
  WatchCore core_{times_, 1};
};

TEST_F(WatchCoreTest, ListsThenWatchesFromThere) {
  const WatchOutput listed = Begin({Pod("a", "1"), Pod("b", "2")});
  EXPECT_THAT(Story(listed), ElementsAre("+a1", "+b2"));
  EXPECT_TRUE(listed.synced);
  EXPECT_EQ(listed.open_watch, "10");
  EXPECT_THAT(Story(Handle(Event("MODIFIED", Pod("a", "11")))), ElementsAre("~a11"));
  EXPECT_THAT(Story(Handle(Event("ADDED", Pod("c", "12")))), ElementsAre("+c12"));
  EXPECT_THAT(Story(Handle(Event("DELETED", Pod("b", "13")))), ElementsAre("-b13"));
  EXPECT_EQ(core_.size(), 2U);
}

TEST_F(WatchCoreTest, RepeatedEventsTellNothingTwice) {
  Begin({Pod("a", "1")});
  EXPECT_THAT(Story(Handle(Event("ADDED", Pod("a", "1")))), IsEmpty());
  EXPECT_THAT(Story(Handle(Event("ADDED", Pod("a", "11")))), ElementsAre("~a11"));
  EXPECT_THAT(Story(Handle(Event("DELETED", Pod("a", "12")))), ElementsAre("-a12"));
  EXPECT_THAT(Story(Handle(Event("DELETED", Pod("a", "12")))), IsEmpty());
}

TEST_F(WatchCoreTest, AnObjectWithAnothersNameComesAfterItsDeletion) {
  Begin({Pod("a", "1", "first")});
  EXPECT_THAT(Story(Handle(Event("MODIFIED", Pod("a", "11", "second")))),
              ElementsAre("-a1", "+a11"));
}

TEST_F(WatchCoreTest, TheServersTimeLimitGoesOnFromTheLastEventOrBookmark) {
  Begin({});
  Handle(Event("ADDED", Pod("a", "11")));
  EXPECT_EQ(Handle(WatchEnded{}).open_watch, "11");
  Handle(Bookmark("25"));
  const WatchOutput reopened = Handle(WatchEnded{});
  EXPECT_EQ(reopened.open_watch, "25");
  EXPECT_FALSE(reopened.list);
  EXPECT_THAT(reopened.changes, IsEmpty());
}

TEST_F(WatchCoreTest, GoneAsAnEventListsAgainAndTellsTheDifference) {
  Begin({Pod("a", "1"), Pod("b", "2"), Pod("c", "3"), Pod("d", "4", "old")});
  const WatchOutput gone =
      Handle(Event("ERROR", {{"kind", "Status"}, {"code", 410}, {"message", "too old"}}));
  EXPECT_TRUE(gone.close_watch);
  EXPECT_THAT(gone.changes, IsEmpty());
  EXPECT_EQ(gone.note, "the resource version is too old; listing again");
  EXPECT_TRUE(Wake().list);
  const WatchOutput listed = Handle(
      ListDone{{Pod("a", "1"), Pod("b", "22"), Pod("d", "24", "new"), Pod("e", "25")}, "30"});
  EXPECT_THAT(Story(listed), ElementsAre("~b22", "-d4", "+d24", "+e25", "-c3"));
  EXPECT_TRUE(listed.synced);
  EXPECT_EQ(Wake().open_watch, "30");
}

TEST_F(WatchCoreTest, GoneAsAStatusListsAgain) {
  Begin({});
  EXPECT_THAT(Handle(WatchEnded{Broken(Code::kOutOfRange)}).note, HasSubstr("too old"));
  EXPECT_TRUE(Wake().list);
}

TEST_F(WatchCoreTest, AWatchThatIsAlwaysGoneIsTriedMoreAndMoreSeldom) {
  Begin({});
  std::vector<Duration> periods;
  for (int i = 0; i < 12; ++i) {
    const TimePoint before = now_;
    Handle(WatchEnded{Broken(Code::kOutOfRange)});
    EXPECT_TRUE(Wake().list);
    Handle(ListDone{{}, "10"});
    EXPECT_EQ(Wake().open_watch, "10");
    periods.push_back(now_ - before);
  }
  EXPECT_LT(periods.front(), 1s);
  EXPECT_GT(periods.back(), 10s);
  // One that is of use ends that.
  Handle(Bookmark("11"));
  Handle(WatchEnded{Broken()});
  EXPECT_LE(core_.wake() - now_, 100ms);
}

TEST_F(WatchCoreTest, ABrokenWatchIsOpenedAgainFromWhereItWasAfterAWait) {
  Begin({});
  Handle(Event("ADDED", Pod("a", "11")));
  const WatchOutput ended = Handle(WatchEnded{Broken()});
  EXPECT_EQ(ended.note, "the watch failed: broken");
  EXPECT_EQ(ended.open_watch, std::nullopt);
  EXPECT_GE(core_.wake() - now_, 50ms);
  EXPECT_FALSE(Handle(Tick{}).open_watch);  // too early
  EXPECT_EQ(Wake().open_watch, "11");
}

TEST_F(WatchCoreTest, AServerThatEndsEachWatchAtOnceIsNotAskedWithoutPause) {
  Begin({});
  EXPECT_EQ(Handle(WatchEnded{}).open_watch, std::nullopt);
  EXPECT_GE(core_.wake() - now_, 50ms);
  EXPECT_EQ(Wake().open_watch, "10");
  now_ += 2s;
  EXPECT_EQ(Handle(WatchEnded{}).open_watch, "10");
}

TEST_F(WatchCoreTest, ASilentWatchIsClosedAndOpenedAgain) {
  Begin({});
  now_ += 59s;
  Handle(Bookmark("11"));
  now_ += 59s;
  EXPECT_FALSE(Handle(Tick{}).close_watch);
  now_ += 1s;
  const WatchOutput idle = Handle(Tick{});
  EXPECT_TRUE(idle.close_watch);
  EXPECT_EQ(idle.open_watch, "11");
  EXPECT_THAT(idle.note, HasSubstr("silent"));
}

TEST_F(WatchCoreTest, ListsAgainFromTimeToTimeHoweverBusyTheWatchIs) {
  Begin({Pod("a", "1")});
  for (int i = 0; i < 19; ++i) {
    now_ += 30s;
    Handle(Bookmark(std::to_string(11 + i)));
    EXPECT_FALSE(Handle(Tick{}).list);
  }
  now_ += 30s;
  const WatchOutput relist = Handle(Tick{});
  EXPECT_TRUE(relist.close_watch);
  EXPECT_TRUE(relist.list);
  EXPECT_EQ(relist.note, "");
  // The watch had lost the deletion.
  const WatchOutput listed = Handle(ListDone{{}, "50"});
  EXPECT_THAT(Story(listed), ElementsAre("-a1"));
  EXPECT_EQ(listed.open_watch, "50");
}

// As where the right to watch has been taken away.
TEST_F(WatchCoreTest, WithoutAWatchTheListIsTakenOftenAndAWatchTriedAfterEach) {
  Begin({Pod("a", "1")});
  const TimePoint begin = now_;
  int lists = 0;
  int watches = 0;
  Handle(WatchEnded{Broken(Code::kPermissionDenied)});
  while (now_ < begin + 5min) {
    WatchOutput output = Wake();
    if (output.list) {
      ++lists;
      output = Handle(ListDone{{Pod("a", "1")}, "20"});
      EXPECT_EQ(output.open_watch, "20") << "the pause is over";
    }
    ASSERT_TRUE(output.open_watch);
    ++watches;
    Handle(WatchEnded{Broken(Code::kPermissionDenied)});
  }
  EXPECT_GE(lists, 10) << "one in 30 s";
  EXPECT_LE(lists, 20);
  EXPECT_LE(watches, 70);
}

TEST_F(WatchCoreTest, AListSaysThatItIsOneAndHowOldItMayBe) {
  Begin({Pod("a", "1"), Pod("b", "2")});
  now_ += 5s;
  const WatchOutput wanted = Handle(ListWanted{});
  EXPECT_TRUE(wanted.close_watch);
  EXPECT_TRUE(wanted.list);
  EXPECT_EQ(wanted.note, "");
  const TimePoint asked = now_;
  now_ += 3s;
  EXPECT_FALSE(Handle(ListWanted{}).list) << "one is under way";
  const WatchOutput listed = Handle(ListDone{{Pod("a", "1"), Pod("c", "21")}, "30"});
  EXPECT_TRUE(listed.synced);
  EXPECT_EQ(listed.asked, asked);
  EXPECT_THAT(listed.listed, SizeIs(2));  // all, and not only what is new
  EXPECT_THAT(Story(listed), ElementsAre("+c21", "-b2"));
  EXPECT_EQ(listed.open_watch, "30");
  EXPECT_FALSE(Handle(Event("DELETED", Pod("a", "31"))).synced);
}

TEST_F(WatchCoreTest, AWantedListDoesNotWaitForTheNextWatchButForThePauseAfterAFailedList) {
  Begin({});
  Handle(WatchEnded{Broken()});
  EXPECT_TRUE(Handle(ListWanted{}).list);
  Handle(ListFailed{Broken()});
  EXPECT_FALSE(Handle(ListWanted{}).list);
  EXPECT_TRUE(Wake().list);
}

TEST_F(WatchCoreTest, AListThatIsOlderThanWhatIsKnownTellsNothing) {
  Begin({});
  Handle(Event("ADDED", Pod("a", "101")));
  EXPECT_TRUE(Handle(ListWanted{}).list);
  const WatchOutput stale = Handle(ListDone{{}, "99"});
  EXPECT_THAT(stale.note, HasSubstr("the list is older (version 99) than what is known (101)"));
  EXPECT_FALSE(stale.synced);
  EXPECT_THAT(Story(stale), IsEmpty());
  EXPECT_FALSE(stale.open_watch);
  EXPECT_TRUE(Wake().list);
  EXPECT_THAT(Story(Handle(ListDone{{}, "102"})), ElementsAre("-a101"));
}

// As after a restore of the server's database.
TEST_F(WatchCoreTest, WhereAllListsStayOlderTheyAreBelievedAfterAll) {
  Begin({Pod("a", "1")});
  EXPECT_TRUE(Handle(ListWanted{}).list);
  const TimePoint begin = now_;
  while (!Handle(ListDone{{}, "3"}).synced) {
    ASSERT_LT(now_, begin + 10min);
    EXPECT_TRUE(Wake().list);
  }
  EXPECT_GE(now_, begin + 5min);
}

TEST_F(WatchCoreTest, AFailedListDeletesNothing) {
  Begin({Pod("a", "1")});
  Handle(WatchEnded{Broken(Code::kOutOfRange)});
  EXPECT_TRUE(Wake().list);
  for (int i = 0; i < 5; ++i) {
    const WatchOutput failed = Handle(ListFailed{Broken()});
    EXPECT_THAT(failed.changes, IsEmpty());
    EXPECT_EQ(failed.note, "cannot list: broken");
    EXPECT_TRUE(Wake().list);
  }
  EXPECT_EQ(core_.size(), 1U);
}

TEST_F(WatchCoreTest, WhatIsNoEventListsAgain) {
  for (const json& event :
       {json(), json(7), json{{"type", "ADDED"}}, json{{"type", "NEW"}, {"object", Pod("a", "1")}},
        json{{"type", "ADDED"}, {"object", {{"metadata", {{"resourceVersion", "5"}}}}}},
        json{{"type", "BOOKMARK"}, {"object", {{"metadata", json::object()}}}}}) {
    core_ = WatchCore(times_, 1);
    Begin({Pod("a", "1")});
    const WatchOutput output = Handle(WatchEvent{event});
    EXPECT_TRUE(output.close_watch) << event;
    EXPECT_THAT(output.changes, IsEmpty());
    EXPECT_TRUE(Wake().list);
  }
}

TEST_F(WatchCoreTest, AnErrorEventThatIsNotGoneOpensAgainFromWhereItWas) {
  Begin({});
  const WatchOutput output = Handle(Event("ERROR", {{"code", 500}, {"message", "etcd"}}));
  EXPECT_TRUE(output.close_watch);
  EXPECT_EQ(output.note, "the watch failed: etcd");
  EXPECT_EQ(Wake().open_watch, "10");
}

TEST_F(WatchCoreTest, LateNewsOfAClosedWatchChangeNothing) {
  Begin({Pod("a", "1")});
  now_ += 10min;
  EXPECT_TRUE(Handle(Tick{}).list);
  EXPECT_THAT(Handle(Event("DELETED", Pod("a", "11"))).changes, IsEmpty());
  EXPECT_FALSE(Handle(WatchEnded{}).open_watch);
  EXPECT_EQ(core_.size(), 1U);
}

}  // namespace
}  // namespace muster::k8s
