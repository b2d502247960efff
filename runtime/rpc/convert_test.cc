#include "runtime/rpc/convert.h"

#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "runtime/proto/muster.pb.h"

namespace muster {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Random values inside the limits; a failure names the seed.
class Maker {
 public:
  explicit Maker(uint64_t seed) : random_(seed) {}

  uint64_t Number() { return random_() >> (random_() % 64); }
  bool Flag() { return (random_() & 1) != 0; }
  int64_t Range(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }
  double Real() { return std::normal_distribution<double>(0, 1e6)(random_); }
  std::string Text() {
    static const std::vector<std::string> kPieces = {
        "a", "Z", " ", "\n", "\"", "é", "€", "𝄞", std::string(1, '\0')};
    std::string text;
    for (int64_t i = Range(0, 20); i > 0; --i) text += kPieces[static_cast<size_t>(Range(0, 8))];
    return text;
  }
  std::string Id() {
    std::string id;
    for (int64_t i = Range(1, 64); i > 0; --i)
      id += "abcdefghijklmnopqrstuvwxyz0123456789-"[Range(0, 36)];
    return id;
  }
  Generation MakeGeneration() {
    Generation generation{Number() | 1, {}};
    for (int64_t i = 0, n = Range(1, 9); i < n; ++i) {
      generation.members.push_back({fmt::format("w-{}", i), Number(), Text()});
    }
    return generation;
  }
  Hello MakeHello() {
    return Hello{Id(),
                 Number(),
                 Text(),
                 Text(),
                 Text(),
                 Range(0, INT64_MAX),
                 Range(1, kMaxMicroBatches),
                 Range(1, kMaxBatchSize),
                 Number(),
                 Number(),
                 Number(),
                 Number(),
                 Number(),
                 Flag()};
  }
  Order MakeOrder() {
    return Order{static_cast<Order::Kind>(Range(0, 3)), MakeGeneration(), Flag(), Text()};
  }
  RunResult MakeResult() {
    RunResult result{Number(), Real(), Text(), Number(), Number(), {}, Flag()};
    for (int64_t i = Range(0, 5); i > 0; --i) result.metrics[Text()] = Real();
    return result;
  }
  Report MakeReport() {
    Report report{static_cast<Report::Kind>(Range(0, 6)),
                  Id(),
                  Number(),
                  Number(),
                  Number(),
                  Number(),
                  Flag(),
                  Flag(),
                  Real(),
                  Real(),
                  Number(),
                  Flag() ? Id() : "",
                  {},
                  Text(),
                  Text(),
                  Real(),
                  Real(),
                  Real(),
                  static_cast<int>(Range(0, INT32_MAX)),
                  Flag(),
                  Flag(),
                  std::nullopt};
    for (int64_t i = Range(0, 5); i > 0; --i) report.unreachable.push_back(Id());
    if (Flag() || report.kind == Report::Kind::kFinished) report.result = MakeResult();
    return report;
  }

 private:
  std::mt19937_64 random_;
};

// Through the bytes of the wire, not only through the message.
template <typename Message>
Message ThroughWire(const Message& message) {
  Message copy;
  EXPECT_TRUE(copy.ParseFromString(message.SerializeAsString()));
  return copy;
}

// Two values are the same when their wire forms are: every field is compared, and FromProto has lost none of them.
template <typename Value>
void ExpectRoundTrip(const Value& value) {
  const auto message = ThroughWire(ToProto(value));
  const auto back = FromProto(message);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(ToProto(*back).DebugString(), message.DebugString());
}

v1::WorkerReport GoodReport() {
  Report report;
  report.worker = "w-0";
  return ToProto(report);
}

v1::Hello GoodHello() {
  Hello hello;
  hello.worker = "w-0";
  hello.micro_batches = 16;
  hello.batch_size = 16;
  return ToProto(hello);
}

template <typename Message>
std::string Refusal(const Message& message) {
  const auto result = FromProto(message);
  if (result) return "accepted";
  EXPECT_EQ(result.error().code, Code::kInvalidArgument);
  return result.error().message;
}

TEST(Convert, KeepsEveryFieldOfRandomMessages) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    Maker maker(seed);
    ExpectRoundTrip(maker.MakeHello());
    ExpectRoundTrip(maker.MakeOrder());
    ExpectRoundTrip(maker.MakeGeneration());
    ExpectRoundTrip(maker.MakeResult());
    ExpectRoundTrip(maker.MakeReport());
  }
}

// ToProto fills every field of the wire, so that the round trip above cannot pass by forgetting one on both sides.
TEST(Convert, FillsEveryFieldOfTheWire) {
  Maker maker(7);
  Report report = maker.MakeReport();
  report = Report{Report::Kind::kNotice,
                  "w-1",
                  1,
                  2,
                  3,
                  4,
                  true,
                  true,
                  5,
                  6,
                  7,
                  "w-2",
                  {"w-3"},
                  "m",
                  "n",
                  8,
                  9,
                  10,
                  11,
                  true,
                  true,
                  RunResult{1, 2, "w", 3, 4, {{"accuracy", 0.9}}, true}};
  const Hello hello{"w-1", 1, "a", "h", "d", 2, 3, 4, 5, 6, 7, 8, 9, true};
  const Order order{Order::Kind::kStop, Generation{1, {{"w-1", 2, "a"}}}, true, "why"};
  const auto unset = [](const google::protobuf::Message& message) {
    std::string names;
    const auto* descriptor = message.GetDescriptor();
    std::vector<const google::protobuf::FieldDescriptor*> set;
    message.GetReflection()->ListFields(message, &set);
    for (int i = 0; i < descriptor->field_count(); ++i) {
      if (std::find(set.begin(), set.end(), descriptor->field(i)) == set.end())
        names += descriptor->field(i)->name() + " ";
    }
    return names;
  };
  EXPECT_EQ(unset(ToProto(report)), "");
  EXPECT_EQ(unset(ToProto(report).result()), "");
  EXPECT_EQ(unset(ToProto(hello)), "");
  EXPECT_EQ(unset(ToProto(order)), "");
  EXPECT_EQ(unset(ToProto(order).generation().members(0)), "");
}

TEST(Convert, RefusesIdsThatAreNone) {
  for (const std::string& id :
       {std::string(), std::string("W-0"), std::string("w_0"), std::string("../w"),
        std::string(65, 'a'), std::string("w\0", 2), std::string("é")}) {
    auto report = GoodReport();
    report.set_worker(id);
    EXPECT_NE(Refusal(report).find("worker is \""), std::string::npos) << id;
    auto hello = GoodHello();
    hello.set_worker(id);
    EXPECT_NE(Refusal(hello).find("worker is \""), std::string::npos) << id;
  }
  auto report = GoodReport();
  report.set_lost("not an id");
  EXPECT_NE(Refusal(report).find("lost is"), std::string::npos);
  report.set_lost("");
  EXPECT_TRUE(FromProto(report));
  report.add_unreachable("not an id");
  EXPECT_NE(Refusal(report).find("unreachable is"), std::string::npos);
  report.clear_unreachable();
  report.set_worker(std::string(64, 'z'));
  EXPECT_TRUE(FromProto(report));
}

TEST(Convert, RefusesNumbersOutOfRange) {
  auto hello = GoodHello();
  hello.set_micro_batches(0);
  EXPECT_EQ(Refusal(hello), "micro_batches is 0, it must be 1 to 65536");
  hello = GoodHello();
  hello.set_batch_size(kMaxBatchSize + 1);
  EXPECT_EQ(Refusal(hello), "batch_size is 1048577, it must be 1 to 1048576");
  hello = GoodHello();
  hello.set_pid(-1);
  EXPECT_NE(Refusal(hello).find("pid is -1"), std::string::npos);
  auto report = GoodReport();
  report.set_steps_redone(-1);
  EXPECT_NE(Refusal(report).find("steps_redone is -1"), std::string::npos);
  report = GoodReport();
  report.set_step_seconds(kNan);
  EXPECT_NE(Refusal(report).find("step_seconds is nan"), std::string::npos);
  report = GoodReport();
  report.set_resume_ms(-kInfinity);
  EXPECT_NE(Refusal(report).find("resume_ms is -inf"), std::string::npos);
}

TEST(Convert, LetsALossThatDivergedThrough) {
  auto report = GoodReport();
  report.set_loss(kNan);
  report.mutable_result()->set_loss(kInfinity);
  (*report.mutable_result()->mutable_metrics())["accuracy"] = kNan;
  const auto result = FromProto(ThroughWire(report));
  ASSERT_TRUE(result);
  EXPECT_TRUE(std::isnan(result->loss));
  EXPECT_EQ(result->result->loss, kInfinity);
}

TEST(Convert, RefusesUnknownKinds) {
  auto report = GoodReport();
  for (const int kind : {0, 8, -1, 1 << 30}) {
    report.set_kind(static_cast<v1::WorkerReport::Kind>(kind));
    EXPECT_NE(Refusal(ThroughWire(report)).find("no known kind"), std::string::npos) << kind;
    v1::Order order;
    order.set_kind(static_cast<v1::Order::Kind>(kind));
    EXPECT_NE(Refusal(ThroughWire(order)).find("no known kind"), std::string::npos) << kind;
  }
}

TEST(Convert, RefusesGenerationsThatCannotBe) {
  v1::Generation generation;
  for (int i = 0; i <= kMaxMembers; ++i)
    generation.add_members()->set_worker(fmt::format("w-{}", i));
  EXPECT_EQ(Refusal(generation), "number of members is 4097, it must be 0 to 4096");
  generation.mutable_members()->RemoveLast();
  EXPECT_TRUE(FromProto(generation));
  generation.mutable_members(1)->set_worker("w-0");
  EXPECT_NE(Refusal(generation).find("w-0 twice"), std::string::npos);
  v1::Order order;
  order.set_kind(v1::Order::GENERATION);
  EXPECT_EQ(Refusal(order), "an order names generation 0 with 0 members");
}

TEST(Convert, RefusesTextsThatAreTooLong) {
  auto report = GoodReport();
  report.set_message(std::string(kMaxTextBytes, 'x'));
  EXPECT_TRUE(FromProto(report));
  report.set_message(std::string(kMaxTextBytes + 1, 'x'));
  EXPECT_EQ(Refusal(report), "message has 65537 bytes, it may have 65536");
}

TEST(Convert, RefusesAFinishedReportWithoutItsResult) {
  auto report = GoodReport();
  report.set_kind(v1::WorkerReport::FINISHED);
  EXPECT_NE(Refusal(report).find("result is missing"), std::string::npos);
}

// Bytes that are no message of ours at all: parsing and converting must end with a refusal or a value, never badly.
TEST(Convert, SurvivesRandomBytes) {
  const google::protobuf::LogSilencer quiet;  // it reports each bad byte
  std::mt19937_64 random(3);
  const std::string seeds[] = {ToProto(Maker(1).MakeReport()).SerializeAsString(),
                               ToProto(Maker(2).MakeOrder()).SerializeAsString(),
                               ToProto(Maker(3).MakeHello()).SerializeAsString()};
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = seeds[i % 3];
    for (uint64_t flips = 1 + random() % 4; flips > 0; --flips)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    v1::WorkerReport report;
    if (report.ParseFromString(bytes)) (void)FromProto(report).has_value();
    v1::Order order;
    if (order.ParseFromString(bytes)) (void)FromProto(order).has_value();
    v1::Hello hello;
    if (hello.ParseFromString(bytes)) (void)FromProto(hello).has_value();
  }
}

TEST(CleanText, ReplacesWhatIsNoUtf8) {
  EXPECT_EQ(CleanText("plain é € 𝄞"), "plain é € 𝄞");
  EXPECT_EQ(CleanText("a\xFF"
                      "b"),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(CleanText("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");           // overlong
  EXPECT_EQ(CleanText("\xED\xA0\x80").substr(0, 3), "\xEF\xBF\xBD");      // surrogate
  EXPECT_EQ(CleanText("\xF4\x90\x80\x80").substr(0, 3), "\xEF\xBF\xBD");  // beyond U+10FFFF
  EXPECT_EQ(CleanText("x\xE2\x82"), "x\xEF\xBF\xBD\xEF\xBF\xBD");         // cut short
}

TEST(CleanText, CutsBetweenCharacters) {
  EXPECT_EQ(CleanText("ab€", 5), "ab€");
  EXPECT_EQ(CleanText("ab€", 4), "ab");
  EXPECT_EQ(CleanText("abc", 0), "");
}

TEST(Convert, WhatIsSentIsAlwaysTakenWhateverTheText) {
  Report report;
  report.kind = Report::Kind::kNotice;
  report.worker = "w-0";
  report.message = std::string(100'000, '\xFF');
  const auto back = FromProto(ThroughWire(ToProto(report)));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_LE(back->message.size(), kMaxTextBytes);
}

}  // namespace
}  // namespace muster
