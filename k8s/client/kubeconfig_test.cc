#include "k8s/client/kubeconfig.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::k8s {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kFile[] = "/etc/muster/kube.yaml";

Kubeconfig Parse(const std::string& text, const std::string& file = kFile) {
  Result<Kubeconfig> config = ParseKubeconfig(text, file);
  EXPECT_TRUE(config) << (config ? "" : config.error().ToString());
  return config.value_or(Kubeconfig{});
}

std::string ErrorOf(const std::string& text) {
  const Result<Kubeconfig> config = ParseKubeconfig(text, kFile);
  EXPECT_FALSE(config) << text;
  if (config) return "";
  EXPECT_EQ(config.error().code, Code::kInvalidArgument);
  EXPECT_NE(config.error().hint, "");
  return config.error().message;
}

std::string ErrorOfUser(const std::string& fields) {
  return ErrorOf("users:\n- name: u\n  user: {" + fields + "}\n");
}

TEST(Kubeconfig, ReadsAllOfAClusterAndAUser) {
  const Kubeconfig config = Parse(R"(
apiVersion: v1
kind: Config
current-context: dev
preferences: {colors: true}
clusters:
- name: prod
  cluster:
    server: https://10.0.0.1:6443/
    certificate-authority-data: UEVNCg==
    tls-server-name: kubernetes
    proxy-url: socks5://localhost:1080
    disable-compression: true
    extensions:
    - name: client.authentication.k8s.io/exec
      extension: {audience: "010", retries: 3, deep: [true, 1.5, no]}
users:
- name: me
  user:
    client-certificate: certs/me.crt
    client-key-data: S0VZ
    token: 010
    tokenFile: /var/token
    as: boss
    as-uid: "7"
    as-groups: [a, b]
    as-user-extra: {team: [x, y]}
contexts:
- name: dev
  context: {cluster: prod, user: me, namespace: ml}
)");
  const Cluster& cluster = config.clusters.at("prod");
  EXPECT_EQ(cluster.server, "https://10.0.0.1:6443");
  EXPECT_EQ(cluster.certificate_authority_pem, "PEM\n");
  EXPECT_EQ(cluster.tls_server_name, "kubernetes");
  EXPECT_EQ(cluster.proxy_url, "socks5://localhost:1080");
  EXPECT_TRUE(cluster.disable_compression);
  EXPECT_EQ(cluster.exec_config->dump(),
            R"({"audience":"010","deep":[true,1.5,"no"],"retries":3})");
  const User& user = config.users.at("me");
  EXPECT_EQ(user.client_certificate, "/etc/muster/certs/me.crt");
  EXPECT_EQ(user.client_key_pem, "KEY");
  EXPECT_EQ(user.token, "010");
  EXPECT_EQ(user.token_file, "/var/token");
  EXPECT_EQ(user.impersonate, "boss");
  EXPECT_EQ(user.impersonate_uid, "7");
  EXPECT_THAT(user.impersonate_groups, ElementsAre("a", "b"));
  EXPECT_THAT(user.impersonate_extra.at("team"), ElementsAre("x", "y"));
  const Result<ClientConfig> chosen = ChooseContext(config, "");
  ASSERT_TRUE(chosen);
  EXPECT_EQ(chosen->namespace_name, "ml");
  EXPECT_EQ(chosen->origin, "context dev of /etc/muster/kube.yaml");
}

TEST(Kubeconfig, ReadsAnExecPlugin) {
  const Kubeconfig config = Parse(R"(
users:
- name: cloud
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: ./bin/token
      args: [--cluster, "1"]
      env: [{name: PROFILE, value: dev}]
      installHint: apt install token
      provideClusterInfo: true
      interactiveMode: Never
- name: old
  user: {exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: aws}}
)");
  const ExecPlugin& plugin = *config.users.at("cloud").exec;
  EXPECT_EQ(plugin.command, "/etc/muster/bin/token");
  EXPECT_THAT(plugin.args, ElementsAre("--cluster", "1"));
  EXPECT_THAT(plugin.env, ElementsAre(std::pair<std::string, std::string>("PROFILE", "dev")));
  EXPECT_EQ(plugin.install_hint, "apt install token");
  EXPECT_TRUE(plugin.provide_cluster_info);
  EXPECT_EQ(plugin.interactive, ExecPlugin::Interactive::kNever);
  EXPECT_EQ(config.users.at("old").exec->command, "aws");
  EXPECT_EQ(config.users.at("old").exec->interactive, ExecPlugin::Interactive::kIfAvailable);
}

TEST(Kubeconfig, OfSeveralFilesTheFirstWinsForEachName) {
  const Kubeconfig first = Parse(R"(
clusters: [{name: a, cluster: {server: "https://first"}}]
users: [{name: u, user: {token: first}}]
)",
                                 "/one/config");
  const Kubeconfig second = Parse(R"(
current-context: from-second
clusters: [{name: a, cluster: {server: "https://second"}}, {name: b, cluster: {server: "https://b", certificate-authority: ca}}]
users: [{name: u, user: {client-certificate: c, client-key: k}}]
contexts: [{name: from-second, context: {cluster: b, user: u}}]
)",
                                  "/two/config");
  const Kubeconfig third = Parse("current-context: from-third\n", "/three/config");
  const Kubeconfig merged = MergeKubeconfigs({first, second, third});
  EXPECT_EQ(merged.clusters.at("a").server, "https://first");
  EXPECT_EQ(merged.clusters.at("b").certificate_authority, "/two/ca");
  EXPECT_EQ(merged.current_context, "from-second");
  // The user is the first file's as a whole, nothing of the second one's is mixed in.
  EXPECT_EQ(merged.users.at("u").token, "first");
  EXPECT_TRUE(merged.users.at("u").client_certificate.empty());
  const Result<ClientConfig> chosen = ChooseContext(merged, "");
  ASSERT_TRUE(chosen);
  EXPECT_EQ(chosen->cluster.server, "https://b");
  EXPECT_EQ(chosen->user.token, "first");
}

TEST(Kubeconfig, OfEqualNamesInOneFileTheFirstCounts) {
  const Kubeconfig config = Parse(R"(
clusters: [{name: a, cluster: {server: "https://1"}}, {name: a, cluster: {server: "https://2"}}]
)");
  EXPECT_EQ(config.clusters.at("a").server, "https://1");
}

TEST(Kubeconfig, NamesTheOthersIfWhatIsAskedForIsMissing) {
  const Kubeconfig config = Parse(R"(
clusters: [{name: c, cluster: {server: "https://c"}}, {name: empty, cluster: {}}]
users: [{name: u, user: {}}]
contexts:
- {name: good, context: {cluster: c}}
- {name: no-cluster, context: {cluster: missing}}
- {name: no-user, context: {cluster: c, user: missing}}
- {name: no-server, context: {cluster: empty}}
)");
  const auto error = [&](const std::string& context) {
    const Result<ClientConfig> chosen = ChooseContext(config, context);
    EXPECT_FALSE(chosen) << context;
    return chosen ? "" : chosen.error().ToString();
  };
  EXPECT_EQ(error("bad"),
            "/etc/muster/kube.yaml: there is no context \"bad\" (there are: good, no-cluster, "
            "no-server, no-user)");
  EXPECT_THAT(error(""), HasSubstr("no current-context is set (name a context; there are: good"));
  EXPECT_THAT(error("no-cluster"),
              HasSubstr("the cluster \"missing\", which is not there (there are: c"));
  EXPECT_THAT(error("no-user"),
              HasSubstr("the user \"missing\", which is not there (there are: u"));
  EXPECT_THAT(error("no-server"), HasSubstr("cluster \"empty\" has no server"));
  const Result<ClientConfig> anonymous = ChooseContext(config, "good");
  ASSERT_TRUE(anonymous);
  EXPECT_EQ(anonymous->namespace_name, "default");
}

TEST(Kubeconfig, SaysWhereTheMistakeIs) {
  EXPECT_EQ(ErrorOf("a: b\nclusters: [\n"),
            "/etc/muster/kube.yaml:3:1: end of sequence flow not found");
  EXPECT_EQ(ErrorOf("clusters: 7\n"), "/etc/muster/kube.yaml:1:11: \"clusters\" must be a list");
  EXPECT_EQ(ErrorOf("kind: Config\nkind: Config\n"),
            "/etc/muster/kube.yaml:2:1: \"kind\" is here twice");
  EXPECT_EQ(ErrorOf("kind: Pod\n"),
            "/etc/muster/kube.yaml:1:7: this is a Pod, not a kubeconfig (kind: Config)");
  EXPECT_EQ(ErrorOf("- 1\n"), "/etc/muster/kube.yaml:1:1: this is no mapping of names to values");
  EXPECT_THAT(ErrorOf("clusters:\n- cluster: {server: \"https://x\"}\n"),
              StartsWith("/etc/muster/kube.yaml:2:3: a cluster without a name"));
  EXPECT_THAT(ErrorOf("clusters:\n- name: c\n  cluster: {insecure-skip-tls-verify: no}\n"),
              HasSubstr(":3:39: \"insecure-skip-tls-verify\" must be true or false"));
  EXPECT_THAT(ErrorOf("clusters:\n- name: c\n  cluster: {server: \"10.0.0.1\"}\n"),
              HasSubstr("\"server\" must begin with one of https:// http://"));
  EXPECT_THAT(ErrorOfUser("exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: x}"),
              HasSubstr("v1alpha1\" is not known"));
  EXPECT_THAT(ErrorOfUser("exec: {apiVersion: client.authentication.k8s.io/v1, command: x}"),
              HasSubstr("interactiveMode must be"));
  EXPECT_THAT(ErrorOfUser("exec: {apiVersion: client.authentication.k8s.io/v1beta1}"),
              HasSubstr("exec has no command"));
  EXPECT_THAT(ErrorOfUser("auth-provider: {name: gcp}"),
              HasSubstr("auth-provider is not supported"));
  EXPECT_THAT(ErrorOfUser("client-certificate: a"), HasSubstr("belong together"));
  EXPECT_THAT(ErrorOfUser("username: a, token: b"), HasSubstr("not both"));
}

TEST(Kubeconfig, DeepNestingAndAliasesThatMultiplyAreErrors) {
  EXPECT_THAT(ErrorOf("a: " + std::string(100'000, '[')), HasSubstr("nested too deeply"));
  EXPECT_THAT(ErrorOf("a: " + std::string(1'000, '{')), HasSubstr("nested too deeply"));
  std::string bomb = "x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 9; ++i) {
    bomb += fmt::format("x{}: &x{} [", i, i);
    for (int j = 0; j < 9; ++j) bomb += fmt::format("*x{}, ", i - 1);
    bomb += "]\n";
  }
  bomb +=
      "clusters: [{name: c, cluster: {extensions: [{name: client.authentication.k8s.io/exec, "
      "extension: *x8}]}}]\n";
  EXPECT_THAT(ErrorOf(bomb), HasSubstr("nested too deeply, or too large"));
}

TEST(Kubeconfig, ErrorsHoldNoSecrets) {
  for (const char* fields :
       {"client-key-data: 'c2Vjcm-V0'", "token: {a: s3cr3t}", "password: [s3cr3t]",
        "token: s3cr3t, username: s3cr3t", "client-key-data: s3cr3t"}) {
    EXPECT_THAT(ErrorOfUser(fields), Not(HasSubstr("s3cr3t"))) << fields;
  }
  EXPECT_THAT(ErrorOf("clusters:\n- name: c\n  cluster: {proxy-url: \"ftp://me:s3cr3t@host\"}\n"),
              Not(HasSubstr("s3cr3t")));
}

TEST(Base64, RoundTripsAndRefusesWhatItIsNot) {
  for (const size_t length : {0, 1, 2, 3, 4, 200}) {
    const std::string text(length, 'x');
    EXPECT_EQ(DecodeBase64(EncodeBase64(text)), text);
  }
  EXPECT_EQ(DecodeBase64("YW\nJj\n"), "abc");
  EXPECT_EQ(DecodeBase64("YWJ"), std::nullopt);
  EXPECT_EQ(DecodeBase64("*!"), std::nullopt);
}

}  // namespace
}  // namespace muster::k8s
