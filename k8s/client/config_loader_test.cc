#include "k8s/client/config_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "runtime/base/files.h"

namespace muster::k8s {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class ConfigLoaderTest : public ::testing::Test {
 protected:
  ConfigLoaderTest() {
    std::string pattern = ::testing::TempDir() + "/config-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
    environment_.service_account = folder_ / "serviceaccount";
    environment_.home = folder_ / "user";
  }
  ~ConfigLoaderTest() override { fs::remove_all(folder_); }

  fs::path Write(const std::string& name, const std::string& text) {
    const fs::path path = folder_ / name;
    fs::create_directories(path.parent_path());
    EXPECT_TRUE(WriteFileAtomically(path, text));
    return path;
  }

  fs::path WriteConfig(const std::string& name, const std::string& server) {
    return Write(name, fmt::format("clusters: [{{name: c, cluster: {{server: \"{}\"}}}}]\n"
                                   "contexts: [{{name: x, context: {{cluster: c}}}}]\n"
                                   "current-context: x\n",
                                   server));
  }

  std::string ServerOf(const ConfigChoice& choice) {
    const Result<ClientConfig> config = LoadClientConfig(choice, environment_);
    return config ? config->cluster.server : config.error().ToString();
  }

  fs::path folder_;
  ConfigEnvironment environment_;
};

TEST_F(ConfigLoaderTest, TheChosenFileComesBeforeTheVariableBeforeHomeBeforeThePod) {
  EXPECT_THAT(ServerOf({}), HasSubstr("no cluster is configured"));
  environment_.service_host = "10.96.0.1";
  environment_.service_port = "443";
  EXPECT_THAT(ServerOf({}), HasSubstr("this pod has no token of a service account"));
  Write("serviceaccount/token", "secret");
  EXPECT_EQ(ServerOf({}), "https://10.96.0.1:443");
  WriteConfig("user/.kube/config", "https://home");
  EXPECT_EQ(ServerOf({}), "https://home");
  environment_.kubeconfig = WriteConfig("listed", "https://listed").string();
  EXPECT_EQ(ServerOf({}), "https://listed");
  EXPECT_EQ(ServerOf({.kubeconfig = WriteConfig("chosen", "https://chosen")}), "https://chosen");
}

TEST_F(ConfigLoaderTest, OfTheListMissingFilesAreSkippedButNotAll) {
  const fs::path first = WriteConfig("first", "https://first");
  const fs::path second = WriteConfig("second", "https://second");
  environment_.kubeconfig = fmt::format("{}:{}::{}:{}", (folder_ / "missing").string(),
                                        first.string(), second.string(), first.string());
  EXPECT_EQ(ServerOf({}), "https://first");
  environment_.kubeconfig = (folder_ / "missing").string();
  EXPECT_THAT(ServerOf({}), HasSubstr("there is no kubeconfig at " + environment_.kubeconfig));
  EXPECT_THAT(ServerOf({.kubeconfig = folder_ / "other"}), HasSubstr("there is no kubeconfig at"));
}

TEST_F(ConfigLoaderTest, ABadFileOfTheListIsAnErrorNotSkipped) {
  const fs::path bad = Write("bad", "clusters: [\n");
  environment_.kubeconfig = WriteConfig("first", "https://first").string() + ":" + bad.string();
  EXPECT_THAT(ServerOf({}), HasSubstr(bad.string() + ":2:1"));
  EXPECT_THAT(ServerOf({.kubeconfig = folder_}), HasSubstr(folder_.string()));
}

TEST_F(ConfigLoaderTest, APodSpeaksAsItsServiceAccount) {
  environment_.service_host = "fd00::1";
  environment_.service_port = "6443";
  const fs::path token = Write("serviceaccount/token", "secret");
  Write("serviceaccount/namespace", "training\n");
  const Result<ClientConfig> config = InClusterConfig(environment_);
  ASSERT_TRUE(config) << config.error().ToString();
  EXPECT_EQ(config->cluster.server, "https://[fd00::1]:6443");
  EXPECT_EQ(config->cluster.certificate_authority, environment_.service_account / "ca.crt");
  EXPECT_EQ(config->user.token_file, token);
  EXPECT_EQ(config->namespace_name, "training");
  const Result<ClientConfig> other = LoadClientConfig({.namespace_name = "mine"}, environment_);
  ASSERT_TRUE(other);
  EXPECT_EQ(other->namespace_name, "mine");
}

TEST(ServiceUrl, PutsBracketsAroundIpv6Only) {
  EXPECT_EQ(ServiceUrl("10.0.0.1", "443"), "https://10.0.0.1:443");
  EXPECT_EQ(ServiceUrl("api.example", ""), "https://api.example:443");
  EXPECT_EQ(ServiceUrl("::1", "1"), "https://[::1]:1");
  EXPECT_EQ(ServiceUrl("[::1]", "1"), "https://[::1]:1");
}

}  // namespace
}  // namespace muster::k8s
