#include "k8s/client/kubeconfig.h"

#include <fmt/ranges.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>

#include "k8s/client/yaml_reader.h"

namespace muster::k8s {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxShownNames = 10;

fs::path Resolved(const std::string& path, const fs::path& folder) {
  return path.empty() || path.front() == '/' ? fs::path(path) : (folder / path).lexically_normal();
}

// The content of `key`, decoded.
std::string Pem(const YamlReader& reader, const char* key) {
  const std::string encoded = reader.String(key);
  std::optional<std::string> decoded = DecodeBase64(encoded);
  if (!decoded) {
    reader.Complain(key, fmt::format("\"{}\" is not base64", key),
                    "write the PEM text through `base64 -w0`, or name a file instead");
  }
  return decoded.value_or("");
}

std::string WithoutFinalSlash(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  return url;
}

// An absolute URL of one of `schemes`, or empty.
std::string Url(const YamlReader& reader, const char* key,
                const std::vector<std::string>& schemes) {
  std::string url = WithoutFinalSlash(reader.String(key));
  const bool known = std::any_of(schemes.begin(), schemes.end(), [&](const std::string& scheme) {
    return url.starts_with(scheme + "://") && url.size() > scheme.size() + 3;
  });
  if (!url.empty() && !known) {
    // Not with its value: a proxy URL may hold a password.
    reader.Complain(
        key, fmt::format("\"{}\" must begin with one of {}://", key, fmt::join(schemes, ":// ")));
  }
  return url;
}

Cluster ReadCluster(const YamlReader& reader, const fs::path& folder) {
  Cluster cluster;
  cluster.server = Url(reader, "server", {"https", "http"});
  cluster.certificate_authority = Resolved(reader.String("certificate-authority"), folder);
  cluster.certificate_authority_pem = Pem(reader, "certificate-authority-data");
  cluster.insecure_skip_tls_verify = reader.Bool("insecure-skip-tls-verify", false);
  cluster.tls_server_name = reader.String("tls-server-name");
  cluster.proxy_url = Url(reader, "proxy-url", {"http", "https", "socks5"});
  cluster.disable_compression = reader.Bool("disable-compression", false);
  for (const YamlReader& extension : reader.Maps("extensions")) {
    if (extension.String("name") == "client.authentication.k8s.io/exec") {
      cluster.exec_config = extension.Json("extension");
    }
  }
  if (cluster.insecure_skip_tls_verify &&
      (reader.Has("certificate-authority") || reader.Has("certificate-authority-data"))) {
    reader.Complain("insecure-skip-tls-verify",
                    "insecure-skip-tls-verify together with a certificate authority",
                    "keep one of the two; the certificate authority is the safe one");
  }
  return cluster;
}

ExecPlugin::Interactive ReadInteractive(const YamlReader& reader, bool required) {
  const std::string mode = reader.String("interactiveMode");
  if (mode == "Never") return ExecPlugin::Interactive::kNever;
  if (mode == "Always") return ExecPlugin::Interactive::kAlways;
  if (mode != "IfAvailable" && (required || !mode.empty())) {
    reader.Complain("interactiveMode", "interactiveMode must be Never, IfAvailable or Always");
  }
  return ExecPlugin::Interactive::kIfAvailable;
}

ExecPlugin ReadExec(const YamlReader& reader, const fs::path& folder) {
  ExecPlugin plugin;
  plugin.api_version = reader.String("apiVersion");
  const bool v1 = plugin.api_version == "client.authentication.k8s.io/v1";
  if (!v1 && plugin.api_version != "client.authentication.k8s.io/v1beta1") {
    reader.Complain("apiVersion",
                    fmt::format("exec apiVersion \"{}\" is not known", plugin.api_version),
                    "use client.authentication.k8s.io/v1; a newer version of the plugin has it");
  }
  plugin.command = reader.String("command");
  if (plugin.command.empty()) reader.Complain("command", "exec has no command");
  // A bare name is for PATH; what has a slash is a path as seen from the file.
  if (plugin.command.find('/') != std::string::npos) {
    plugin.command = Resolved(plugin.command, folder).string();
  }
  plugin.args = reader.Strings("args");
  for (const YamlReader& variable : reader.Maps("env")) {
    plugin.env.emplace_back(variable.String("name"), variable.String("value"));
    const std::string& name = plugin.env.back().first;
    if (name.empty() || name.find('=') != std::string::npos) {
      variable.Complain("name", "an environment variable needs a name without \"=\"");
    }
  }
  plugin.install_hint = reader.String("installHint");
  plugin.provide_cluster_info = reader.Bool("provideClusterInfo", false);
  plugin.interactive = ReadInteractive(reader, v1);
  return plugin;
}

User ReadUser(const YamlReader& reader, const fs::path& folder) {
  User user;
  user.client_certificate = Resolved(reader.String("client-certificate"), folder);
  user.client_certificate_pem = Pem(reader, "client-certificate-data");
  user.client_key = Resolved(reader.String("client-key"), folder);
  user.client_key_pem = Pem(reader, "client-key-data");
  user.token = reader.String("token");
  user.token_file = Resolved(reader.String("tokenFile"), folder);
  user.username = reader.String("username");
  user.password = reader.String("password");
  user.impersonate = reader.String("as");
  user.impersonate_uid = reader.String("as-uid");
  user.impersonate_groups = reader.Strings("as-groups");
  const YamlReader extra = reader.Map("as-user-extra");
  if (const auto names = reader.Json("as-user-extra"); names && names->is_object()) {
    for (const auto& [name, values] : names->items()) {
      user.impersonate_extra[name] = extra.Strings(name.c_str());
    }
  }
  if (reader.Has("exec")) user.exec = ReadExec(reader.Map("exec"), folder);
  if (reader.Has("auth-provider")) {
    reader.Complain(
        "auth-provider", "auth-provider is not supported; Kubernetes removed it in 1.26",
        "let your cloud's command line write the kubeconfig again, with an exec plugin");
  }
  const bool certificate = !user.client_certificate.empty() || !user.client_certificate_pem.empty();
  const bool key = !user.client_key.empty() || !user.client_key_pem.empty();
  if (certificate != key) {
    reader.Complain(
        certificate ? "client-certificate" : "client-key",
        "a client certificate and a client key belong together, one of them is missing");
  }
  if (!user.username.empty() && (!user.token.empty() || !user.token_file.empty())) {
    reader.Complain("username", "a user has either a token or a username, not both");
  }
  return user;
}

Context ReadContext(const YamlReader& reader) {
  return {reader.String("cluster"), reader.String("user"), reader.String("namespace")};
}

// Reads the list `list` of {name, `what`: {...}}. Of equal names the first one counts.
template <typename T, typename Read>
std::map<std::string, T> ReadNamed(const YamlReader& reader, const char* list, const char* what,
                                   Read read) {
  std::map<std::string, T> named;
  for (const YamlReader& element : reader.Maps(list)) {
    const std::string name = element.String("name");
    if (name.empty()) element.Complain("name", fmt::format("a {} without a name", what));
    named.emplace(name, read(element.Map(what)));
  }
  return named;
}

template <typename T>
std::string Names(const std::map<std::string, T>& named) {
  std::vector<std::string> names;
  for (const auto& [name, value] : named) {
    if (names.size() == kMaxShownNames) {
      names.push_back("...");
      break;
    }
    names.push_back(name);
  }
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string Files(const Kubeconfig& config) {
  std::vector<std::string> names;
  for (const fs::path& file : config.files) names.push_back(file.string());
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

Result<Kubeconfig> ParseKubeconfig(std::string_view text, const fs::path& file) {
  MUSTER_ASSIGN(const YamlReader reader, YamlReader::Parse(text, file.string()));
  const fs::path folder = file.parent_path();
  Kubeconfig config;
  config.files = {file};
  config.current_context = reader.String("current-context");
  if (const std::string kind = reader.String("kind"); !kind.empty() && kind != "Config") {
    reader.Complain("kind", fmt::format("this is a {}, not a kubeconfig (kind: Config)", kind));
  }
  config.clusters = ReadNamed<Cluster>(reader, "clusters", "cluster",
                                       [&](const YamlReader& r) { return ReadCluster(r, folder); });
  config.users = ReadNamed<User>(reader, "users", "user",
                                 [&](const YamlReader& r) { return ReadUser(r, folder); });
  config.contexts = ReadNamed<Context>(reader, "contexts", "context", ReadContext);
  MUSTER_TRY(reader.error());
  return config;
}

Kubeconfig MergeKubeconfigs(const std::vector<Kubeconfig>& first_to_last) {
  Kubeconfig merged;
  for (const Kubeconfig& config : first_to_last) {
    merged.clusters.insert(config.clusters.begin(), config.clusters.end());
    merged.users.insert(config.users.begin(), config.users.end());
    merged.contexts.insert(config.contexts.begin(), config.contexts.end());
    if (merged.current_context.empty()) merged.current_context = config.current_context;
    merged.files.insert(merged.files.end(), config.files.begin(), config.files.end());
  }
  return merged;
}

Result<ClientConfig> ChooseContext(const Kubeconfig& config, const std::string& context) {
  const std::string& name = context.empty() ? config.current_context : context;
  const std::string files = Files(config);
  if (name.empty()) {
    return WithHint(Err(Code::kInvalidArgument, "{}: no current-context is set", files),
                    "name a context; there are: " + Names(config.contexts));
  }
  const auto chosen = config.contexts.find(name);
  if (chosen == config.contexts.end()) {
    return WithHint(Err(Code::kInvalidArgument, "{}: there is no context \"{}\"", files, name),
                    "there are: " + Names(config.contexts));
  }
  const Context& found = chosen->second;
  const auto cluster = config.clusters.find(found.cluster);
  if (cluster == config.clusters.end()) {
    return WithHint(Err(Code::kInvalidArgument,
                        "{}: context \"{}\" names the cluster \"{}\", "
                        "which is not there",
                        files, name, found.cluster),
                    "there are: " + Names(config.clusters));
  }
  if (cluster->second.server.empty()) {
    return WithHint(
        Err(Code::kInvalidArgument, "{}: cluster \"{}\" has no server", files, found.cluster),
        "add server: https://HOST:PORT to it");
  }
  ClientConfig result;
  result.cluster = cluster->second;
  if (!found.user.empty()) {
    const auto user = config.users.find(found.user);
    if (user == config.users.end()) {
      return WithHint(Err(Code::kInvalidArgument,
                          "{}: context \"{}\" names the user \"{}\", "
                          "which is not there",
                          files, name, found.user),
                      "there are: " + Names(config.users));
    }
    result.user = user->second;
  }
  if (!found.namespace_name.empty()) result.namespace_name = found.namespace_name;
  result.context = name;
  result.origin = fmt::format("context {} of {}", name, files);
  return result;
}

std::optional<std::string> DecodeBase64(std::string_view text) {
  const std::unique_ptr<EVP_ENCODE_CTX, void (*)(EVP_ENCODE_CTX*)> context(EVP_ENCODE_CTX_new(),
                                                                           EVP_ENCODE_CTX_free);
  EVP_DecodeInit(context.get());
  std::string decoded(text.size() / 4 * 3 + 64, '\0');
  auto* out = reinterpret_cast<unsigned char*>(decoded.data());
  int length = 0;
  int rest = 0;
  const auto* in = reinterpret_cast<const unsigned char*>(text.data());
  if (EVP_DecodeUpdate(context.get(), out, &length, in, static_cast<int>(text.size())) < 0 ||
      EVP_DecodeFinal(context.get(), out + length, &rest) < 0) {
    return std::nullopt;
  }
  decoded.resize(length + rest);
  return decoded;
}

std::string EncodeBase64(std::string_view bytes) {
  std::string encoded((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                     reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  encoded.resize(length);
  return encoded;
}

}  // namespace muster::k8s
