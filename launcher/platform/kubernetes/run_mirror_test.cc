#include "launcher/platform/kubernetes/run_mirror.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "launcher/platform/kubernetes/testing/fake_api.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using k8s::FakeExchange;

// A job about which there is nothing to say.
class QuietJob final : public JobControl {
 public:
  void Submit(CoordinatorEvent, Done, Relevant) override {}
  Status CheckResize(int, int) override { return {}; }
  std::string StatusText() override { return "{}"; }
  std::vector<std::string> ReadEvents(uint64_t, size_t) override { return {}; }
  uint64_t NextEvent() override { return 1; }
};

class RunMirrorTest : public ::testing::Test {
 protected:
  FakeApi api_{"run"};
  std::unique_ptr<k8s::ApiClient> client_ = api_.NewClient();
  std::unique_ptr<RunRecord> record_ =
      std::move(*RunRecord::TakeOver(*client_, "ml", "run", MonotonicNow() + 60s));
  QuietJob job_;
  std::atomic<int> written_ = 0;
  std::atomic<int> failed_ = 0;
  std::atomic<int> writes_ = 0;
  RunMirror mirror_{*record_, job_,
                    [this](const Status& written) { ++(written ? written_ : failed_); }};
};

TEST_F(RunMirrorTest, TellsHowItsWritesGo) {
  EXPECT_TRUE(api_.Await([this] { return written_ == 1; }));
  EXPECT_EQ(api_.run()["data"]["status"], "{}");
  api_.SetFault([](FakeExchange& exchange) {
    return FakeApi::Refuse(exchange, 403, "Forbidden", "no writing");
  });
  EXPECT_TRUE(api_.Await([this] { return failed_ >= 1; }));
}

TEST_F(RunMirrorTest, TheResultIsWrittenWhateverTheServerSaysAtFirst) {
  ASSERT_TRUE(api_.Await([this] { return written_ == 1; }));
  api_.SetFault([this](FakeExchange& exchange) {
    if (++writes_ > 3) return Fault::kNone;
    return FakeApi::Refuse(exchange, 403, "Forbidden", "no writing");
  });
  EXPECT_TRUE(mirror_.Finish("the end", MonotonicNow() + 60s));
  EXPECT_EQ(api_.run()["data"]["result"], "the end");
  EXPECT_GE(failed_, 2);
}

TEST_F(RunMirrorTest, ARunThatHasBeenDeletedNeedsNoResult) {
  ASSERT_TRUE(api_.Await([this] { return written_ == 1; }));
  api_.RemoveRun();
  const Status gone = mirror_.Finish("the end", MonotonicNow() + 60s);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, Code::kNotFound);
}

}  // namespace
}  // namespace muster::kubernetes
