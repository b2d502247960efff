#include "k8s/client/credentials.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <thread>

#include "runtime/base/files.h"
#include "runtime/base/unique_fd.h"

namespace muster::k8s {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kV1[] = "client.authentication.k8s.io/v1";

TimePoint Soon() { return MonotonicNow() + 60s; }

class CredentialsTest : public ::testing::Test {
 protected:
  CredentialsTest() {
    std::string pattern = ::testing::TempDir() + "/credentials-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
    options_.monotonic_now = [this] { return now_; };
    options_.wall_now = [this] { return wall_; };
    wall_ = *ParseTime("2026-01-01T00:00:00Z");
  }
  ~CredentialsTest() override { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFileAtomically(folder_ / name, text));
  }
  std::string Read(const std::string& name) { return ReadFile(folder_ / name).value_or(""); }

  // A plugin that runs `script` with the test's folder as $D.
  User Plugin(const std::string& script) {
    User user;
    user.exec = ExecPlugin{.api_version = kV1,
                           .command = "sh",
                           .args = {"-c", script},
                           .env = {{"D", folder_.string()}},
                           .interactive = ExecPlugin::Interactive::kNever};
    return user;
  }
  // One that counts its runs in the file `runs` and prints `status`.
  User CountingPlugin(const std::string& status) {
    Write("answer", R"({"kind":"ExecCredential","apiVersion":")" + std::string(kV1) +
                        R"(","status":)" + status + "}");
    return Plugin("printf x >> $D/runs; cat $D/answer");
  }
  static std::string TokenOf(CredentialSource& source) {
    const auto credentials = source.Get(Soon());
    return credentials ? (*credentials)->token : credentials.error().ToString();
  }

  fs::path folder_;
  TimePoint now_ = MonotonicNow();
  WallTime wall_;
  CredentialOptions options_;
};

TEST_F(CredentialsTest, ATokenFileIsReadAgainAfterAMinute) {
  Write("token", "one\n");
  CredentialSource source({}, {.token_file = folder_ / "token"}, options_);
  EXPECT_EQ(TokenOf(source), "one");
  Write("token", "two\n");
  now_ += 59s;
  EXPECT_EQ(TokenOf(source), "one");
  now_ += 1s;
  EXPECT_EQ(TokenOf(source), "two");
  // While a file is being replaced it may be missing; the last token still counts.
  fs::remove(folder_ / "token");
  now_ += 61s;
  EXPECT_EQ(TokenOf(source), "two");
}

TEST_F(CredentialsTest, ARefusedTokenIsReadAgainAtOnce) {
  Write("token", "one");
  CredentialSource source({}, {.token_file = folder_ / "token"}, options_);
  const auto first = source.Get(Soon());
  ASSERT_TRUE(first);
  Write("token", "two");
  source.Invalidate(*first);
  EXPECT_EQ(TokenOf(source), "two");
  // Somebody else who was refused with the old one changes nothing any more.
  Write("token", "three");
  source.Invalidate(*first);
  EXPECT_EQ(TokenOf(source), "two");
}

TEST_F(CredentialsTest, TheTokenOfTheKubeconfigStandsInForAMissingFile) {
  CredentialSource source({}, {.token = "static", .token_file = folder_ / "missing"}, options_);
  EXPECT_EQ(TokenOf(source), "static");
  CredentialSource missing({}, {.token_file = folder_ / "missing"}, options_);
  EXPECT_THAT(TokenOf(missing), HasSubstr("tokenFile"));
}

TEST_F(CredentialsTest, ReadsCertificateAndKey) {
  Write("crt", "CERT");
  CredentialSource source({}, {.client_certificate = folder_ / "crt", .client_key_pem = "KEY"},
                          options_);
  const auto credentials = source.Get(Soon());
  ASSERT_TRUE(credentials);
  EXPECT_EQ((*credentials)->certificate_pem, "CERT");
  EXPECT_EQ((*credentials)->key_pem, "KEY");
}

TEST_F(CredentialsTest, APluginRunsAgainShortlyBeforeWhatItPrintedExpires) {
  CredentialSource source(
      {}, CountingPlugin(R"({"token":"t","expirationTimestamp":"2026-01-01T01:00:00Z"})"),
      options_);
  EXPECT_EQ(TokenOf(source), "t");
  now_ += 59min;
  EXPECT_EQ(TokenOf(source), "t");
  EXPECT_EQ(Read("runs"), "x");
  now_ += 45s;
  EXPECT_EQ(TokenOf(source), "t");
  EXPECT_EQ(Read("runs"), "xx");
}

TEST_F(CredentialsTest, WithoutAnExpiryAPluginRunsOnceUntilItsTokenIsRefused) {
  CredentialSource source({}, CountingPlugin(R"({"token":"t"})"), options_);
  EXPECT_EQ(TokenOf(source), "t");
  now_ += 24h;
  const auto credentials = source.Get(Soon());
  EXPECT_EQ(Read("runs"), "x");
  source.Invalidate(*credentials);
  EXPECT_EQ(TokenOf(source), "t");
  EXPECT_EQ(Read("runs"), "xx");
}

TEST_F(CredentialsTest, ManyCallersRunThePluginOnce) {
  CredentialSource source({}, CountingPlugin(R"({"token":"t"})"), options_);
  std::vector<std::jthread> callers;
  for (int i = 0; i < 8; ++i) callers.emplace_back([&] { EXPECT_EQ(TokenOf(source), "t"); });
  callers.clear();
  EXPECT_EQ(Read("runs"), "x");
}

TEST_F(CredentialsTest, APluginLearnsTheClusterAndGetsNoShell) {
  User user =
      Plugin(R"(printf '%s' "$KUBERNETES_EXEC_INFO" > $D/info; printf '%s' "$1" > $D/arg; exit 3)");
  user.exec->args.insert(user.exec->args.end(), {"sh", "$(touch $D/shell) `id` *"});
  user.exec->provide_cluster_info = true;
  Cluster cluster;
  cluster.server = "https://c";
  cluster.certificate_authority_pem = "CA";
  cluster.exec_config = nlohmann::json{{"audience", "me"}};
  CredentialSource source(cluster, user, options_);
  EXPECT_THAT(TokenOf(source), HasSubstr("failed with exit code 3"));
  EXPECT_EQ(Read("arg"), "$(touch $D/shell) `id` *");
  EXPECT_EQ(nlohmann::json::parse(Read("info")), nlohmann::json::parse(R"({
    "kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
    "spec": {"interactive": false, "cluster": {"server": "https://c",
             "certificate-authority-data": "Q0E=", "config": {"audience": "me"}}}})"));
}

TEST_F(CredentialsTest, APluginThatHangsIsEndedWithAllItStarted) {
  options_.plugin_timeout = 500ms;
  // A pipe says when the last process that holds its other end is gone.
  const std::string path = (folder_ / "alive").string();
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const UniqueFd alive(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  CredentialSource source({}, Plugin("exec 3>$D/alive; echo >&3; sleep 1000 & wait"), options_);
  EXPECT_THAT(TokenOf(source), HasSubstr("did not end in time"));
  char started = 0;
  if (::read(alive.get(), &started, 1) != 1) GTEST_SKIP() << "it had no time to start";
  struct pollfd gone = {alive.get(), 0, 0};
  EXPECT_EQ(::poll(&gone, 1, 60'000), 1);
}

TEST_F(CredentialsTest, APluginThatLeavesADaemonBehindIsNotWaitedFor) {
  const TimePoint start = MonotonicNow();
  CredentialSource source({}, Plugin("sleep 1000 & exit 1"), options_);
  EXPECT_THAT(TokenOf(source), HasSubstr("exit code 1"));
  EXPECT_LT(MonotonicNow() - start, 50s);
}

TEST_F(CredentialsTest, APluginThatPrintsWithoutEndIsEnded) {
  CredentialSource source({}, Plugin("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxx; done"), options_);
  EXPECT_THAT(TokenOf(source), HasSubstr("printed more than"));
}

TEST_F(CredentialsTest, TheErrorOfAPluginIsShownItsOutputIsNot) {
  CredentialSource failing({}, Plugin("echo s3cr3t; echo please log in >&2; exit 1"), options_);
  EXPECT_THAT(TokenOf(failing), HasSubstr("please log in"));
  EXPECT_THAT(TokenOf(failing), Not(HasSubstr("s3cr3t")));
  for (const char* output : {"s3cr3t", "{\"token\": \"s3cr3t", "[\"s3cr3t\"]"}) {
    CredentialSource bad({}, Plugin(fmt::format("printf '%s' '{}'", output)), options_);
    EXPECT_THAT(TokenOf(bad), HasSubstr("printed no JSON object"));
    EXPECT_THAT(TokenOf(bad), Not(HasSubstr("s3cr3t")));
  }
}

TEST_F(CredentialsTest, AMissingPluginGivesItsInstallHint) {
  User user = Plugin("");
  user.exec->command = "muster-no-such-plugin";
  user.exec->install_hint = "install it like this";
  CredentialSource source({}, user, options_);
  EXPECT_THAT(TokenOf(source), HasSubstr("cannot start muster-no-such-plugin"));
  EXPECT_THAT(TokenOf(source), HasSubstr("(install it like this)"));
}

TEST_F(CredentialsTest, AnInteractivePluginNeedsATerminal) {
  User user = CountingPlugin(R"({"token":"t"})");
  user.exec->interactive = ExecPlugin::Interactive::kAlways;
  CredentialSource source({}, user, options_);
  EXPECT_THAT(TokenOf(source), HasSubstr("there is no terminal"));
  EXPECT_EQ(Read("runs"), "");
  options_.has_terminal = true;
  CredentialSource with_terminal({}, user, options_);
  EXPECT_EQ(TokenOf(with_terminal), "t");
}

TEST(ExecCredential, RefusesWhatIsIncomplete) {
  const ExecPlugin plugin{.api_version = kV1, .command = "p"};
  const auto error = [&](const std::string& kind, const std::string& version,
                         const std::string& status) {
    const auto parsed = ParseExecCredential(
        fmt::format(R"({{"kind":"{}","apiVersion":"{}","status":{}}})", kind, version, status),
        plugin);
    return parsed ? "" : parsed.error().message;
  };
  EXPECT_EQ(error("ExecCredential", kV1, R"({"token":"t"})"), "");
  EXPECT_EQ(error("ExecCredential", kV1, R"({"clientCertificateData":"c","clientKeyData":"k"})"),
            "");
  EXPECT_THAT(error("Pod", kV1, "{}"), HasSubstr("kind is not ExecCredential"));
  EXPECT_THAT(error("ExecCredential", "v1", "{}"), HasSubstr("did not answer with apiVersion"));
  EXPECT_THAT(error("ExecCredential", kV1, "null"), HasSubstr("no status"));
  EXPECT_THAT(error("ExecCredential", kV1, "{}"), HasSubstr("neither a token nor a certificate"));
  EXPECT_THAT(error("ExecCredential", kV1, R"({"clientKeyData":"k"})"), HasSubstr("only one of"));
  EXPECT_THAT(error("ExecCredential", kV1, R"({"token":"t","expirationTimestamp":"soon"})"),
              HasSubstr("is no time"));
}

TEST(ParseTime, KnowsOffsetsAndFractions) {
  const auto seconds = [](const char* text) {
    const auto time = ParseTime(text);
    return time ? std::chrono::system_clock::to_time_t(*time) : -1;
  };
  EXPECT_EQ(seconds("1970-01-01T00:01:00Z"), 60);
  EXPECT_EQ(seconds("1970-01-01T01:01:00.123456789+01:00"), 60);
  EXPECT_EQ(seconds("1969-12-31T23:31:00-00:30"), 60);
  EXPECT_EQ(seconds("1970-01-01T00:01:00"), -1);
  EXPECT_EQ(seconds("1970-01-01"), -1);
  EXPECT_EQ(seconds(""), -1);
}

}  // namespace
}  // namespace muster::k8s
