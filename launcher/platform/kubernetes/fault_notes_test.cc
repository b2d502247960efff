#include "launcher/platform/kubernetes/fault_notes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FaultNotesTest : public ::testing::Test {
 protected:
  std::vector<std::string> Take() {
    std::vector<std::string> texts;
    for (const FaultNote& note : notes_.Take(now_)) {
      texts.push_back((note.over ? "over: " : "begins: ") + note.message);
    }
    return texts;
  }
  TimePoint now_ = TimePoint() + 1000s;
  FaultNotes notes_{10s};
};

TEST_F(FaultNotesTest, ALastingFaultIsOneNoteAtItsBeginningAndOneAtItsEnd) {
  notes_.Worked("list", now_);
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_EQ(notes_.wake(), TimePoint::max());
  notes_.Failed("list", "no answer", now_);
  EXPECT_LE(notes_.wake(), now_);
  EXPECT_THAT(Take(), ElementsAre("begins: list: no answer"));
  for (int i = 0; i < 100; ++i) {
    now_ += 1s;
    notes_.Failed("list", "503", now_);
    EXPECT_THAT(Take(), IsEmpty());
  }
  EXPECT_THAT(notes_.Lasting(), ElementsAre("list: 503"));
  notes_.Worked("list", now_);
  EXPECT_THAT(notes_.Lasting(), IsEmpty());
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_EQ(notes_.wake(), now_ + 10s);
  now_ += 10s;
  EXPECT_THAT(Take(),
              ElementsAre("over: list: works again, after 101 failures in 100 s; the last: 503"));
  EXPECT_EQ(notes_.wake(), TimePoint::max());
}

TEST_F(FaultNotesTest, WhatComesAndGoesQuicklyIsOneFault) {
  for (int i = 0; i < 20; ++i) {
    notes_.Failed("create", "429", now_);
    notes_.Worked("create", now_);
    EXPECT_EQ(Take().size(), i == 0 ? 1U : 0U);
    now_ += 5s;
  }
  EXPECT_THAT(Take(), IsEmpty());
  now_ += 5s;
  EXPECT_EQ(Take().size(), 1U);
  notes_.Failed("create", "429", now_);
  EXPECT_THAT(Take(), ElementsAre("begins: create: 429"));
}

TEST_F(FaultNotesTest, WhatNobodyTriesAnyMoreIsNotSaidToWork) {
  notes_.Failed("create", "429", now_);
  Take();
  now_ += 1h;
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_EQ(notes_.wake(), TimePoint::max());
}

TEST_F(FaultNotesTest, FaultsOfDifferentRequestsAreDifferent) {
  notes_.Failed("list", "401", now_);
  notes_.Failed("create", "500", now_);
  notes_.Worked("create", now_);
  EXPECT_THAT(Take(), ElementsAre("begins: list: 401", "begins: create: 500"));
  EXPECT_THAT(notes_.Lasting(), ElementsAre("list: 401"));
}

}  // namespace
}  // namespace muster::kubernetes
