// Kubeconfig: where clusters are and as whom to speak to them, as kubectl's configuration files say it. Parsing, merging and
// choosing are pure; config_loader.h reads the files.
//
// The format is that of the Kubernetes documentation: reference/config-api/kubeconfig.v1 and client-authentication.v1.
//
// Threading: plain values.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/status.h"

namespace muster::k8s {

// Paths are absolute, or relative to the folder of the file that named them and resolved against it already.
// `..._pem` is decoded content; it wins over the path of the same thing.
struct Cluster {
  std::string server;  // "https://host:port/prefix", without a final slash
  std::filesystem::path certificate_authority;
  std::string certificate_authority_pem;
  bool insecure_skip_tls_verify = false;
  std::string tls_server_name;  // the name the certificate must have; empty: the server's
  std::string
      proxy_url;  // http, https or socks5; empty: from the environment (HTTPS_PROXY, NO_PROXY)
  bool disable_compression = false;
  std::optional<nlohmann::json> exec_config;  // what exec plugins get as spec.cluster.config
};

// A program that prints credentials.
struct ExecPlugin {
  enum class Interactive { kNever, kIfAvailable, kAlways };
  std::string api_version;  // client.authentication.k8s.io/v1 or v1beta1
  std::string command;      // a name is looked up in PATH; a path is used as it is
  std::vector<std::string> args;
  std::vector<std::pair<std::string, std::string>> env;
  std::string install_hint;
  bool provide_cluster_info = false;
  Interactive interactive = Interactive::kIfAvailable;
};

struct User {
  std::filesystem::path client_certificate;
  std::string client_certificate_pem;
  std::filesystem::path client_key;
  std::string client_key_pem;
  std::string token;
  std::filesystem::path token_file;  // wins over `token` while it can be read
  std::string username;
  std::string password;
  std::string impersonate;
  std::string impersonate_uid;
  std::vector<std::string> impersonate_groups;
  std::map<std::string, std::vector<std::string>> impersonate_extra;
  std::optional<ExecPlugin> exec;
};

struct Context {
  std::string cluster;
  std::string user;            // empty: nobody
  std::string namespace_name;  // empty: "default"
};

struct Kubeconfig {
  std::map<std::string, Cluster> clusters;
  std::map<std::string, User> users;
  std::map<std::string, Context> contexts;
  std::string current_context;
  std::vector<std::filesystem::path> files;  // where it comes from, for error texts
};

// The content of one file. Unknown fields are ignored, as kubectl does; wrong types and equal keys are errors.
// Errors: kInvalidArgument, "FILE:LINE:COLUMN: what", with a hint; never with a part of the content that could be a secret.
Result<Kubeconfig> ParseKubeconfig(std::string_view text, const std::filesystem::path& file);

// What several files say together: for each cluster, user and context by its name, and for current-context, the first one wins.
Kubeconfig MergeKubeconfigs(const std::vector<Kubeconfig>& first_to_last);

// One cluster, and who we are there.
struct ClientConfig {
  Cluster cluster;
  User user;
  std::string namespace_name = "default";
  std::string context;  // its name; empty in a pod
  std::string origin;   // where this comes from, for people: "context dev of FILE"
};

// The context `context`, or the current one if it is empty.
// Errors: kInvalidArgument (no such context, cluster or user; no server in it), naming those that exist.
Result<ClientConfig> ChooseContext(const Kubeconfig& config, const std::string& context);

// Decodes base64 (RFC 4648, white space ignored); nothing if it is none.
std::optional<std::string> DecodeBase64(std::string_view text);
std::string EncodeBase64(std::string_view bytes);

}  // namespace muster::k8s
