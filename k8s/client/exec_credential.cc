#include "k8s/client/exec_credential.h"

#include <time.h>

#include <cctype>
#include <cstdlib>

namespace muster::k8s {
namespace {

using nlohmann::json;

std::string Field(const json& object, const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_string() ? field->get<std::string>() : "";
}

tl::unexpected<Error> Bad(const ExecPlugin& plugin, const std::string& what) {
  return WithHint(Err(Code::kUnauthenticated, "the credential plugin {} {}", plugin.command, what),
                  "run the plugin by hand and look at what it prints");
}

// "Z" or "+hh:mm", in seconds east.
std::optional<int> ParseOffset(std::string_view text) {
  if (text == "Z" || text == "z") return 0;
  if (text.size() != 6 || (text[0] != '+' && text[0] != '-') || text[3] != ':') return std::nullopt;
  for (const size_t i : {1, 2, 4, 5}) {
    if (std::isdigit(static_cast<unsigned char>(text[i])) == 0) return std::nullopt;
  }
  const int hours = (text[1] - '0') * 10 + text[2] - '0';
  const int minutes = (text[4] - '0') * 10 + text[5] - '0';
  return (text[0] == '-' ? -60 : 60) * (hours * 60 + minutes);
}

}  // namespace

std::optional<WallTime> ParseTime(const std::string& text) {
  struct tm parts = {};
  const char* rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr) return std::nullopt;
  if (*rest == '.') {
    do {
      ++rest;
    } while (std::isdigit(static_cast<unsigned char>(*rest)) != 0);
  }
  const std::optional<int> offset = ParseOffset(rest);
  if (!offset) return std::nullopt;
  return std::chrono::system_clock::from_time_t(::timegm(&parts) - *offset);
}

std::string ExecInfo(const ExecPlugin& plugin, const Cluster& cluster,
                     const std::string& certificate_authority_pem, bool interactive) {
  json spec = {{"interactive", interactive}};
  if (plugin.provide_cluster_info) {
    json& info = spec["cluster"];
    info["server"] = cluster.server;
    if (!cluster.tls_server_name.empty()) info["tls-server-name"] = cluster.tls_server_name;
    if (cluster.insecure_skip_tls_verify) info["insecure-skip-tls-verify"] = true;
    if (!certificate_authority_pem.empty()) {
      info["certificate-authority-data"] = EncodeBase64(certificate_authority_pem);
    }
    if (!cluster.proxy_url.empty()) info["proxy-url"] = cluster.proxy_url;
    if (cluster.disable_compression) info["disable-compression"] = true;
    if (cluster.exec_config) info["config"] = *cluster.exec_config;
  }
  return json{{"kind", "ExecCredential"}, {"apiVersion", plugin.api_version}, {"spec", spec}}.dump(
      -1, ' ', false, json::error_handler_t::replace);
}

Result<Credentials> ParseExecCredential(std::string_view output, const ExecPlugin& plugin) {
  // Without exceptions: the text of one would quote the output.
  const json document = json::parse(output, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) return Bad(plugin, "printed no JSON object");
  if (Field(document, "kind") != "ExecCredential") {
    return Bad(plugin, "printed an object whose kind is not ExecCredential");
  }
  if (Field(document, "apiVersion") != plugin.api_version) {
    return WithHint(Err(Code::kUnauthenticated,
                        "the credential plugin {} did not answer with "
                        "apiVersion {}",
                        plugin.command, plugin.api_version),
                    "set the apiVersion that the plugin speaks in the kubeconfig, or update it");
  }
  const auto status = document.find("status");
  if (status == document.end() || !status->is_object()) return Bad(plugin, "printed no status");

  Credentials credentials;
  credentials.token = Field(*status, "token");
  credentials.certificate_pem = Field(*status, "clientCertificateData");
  credentials.key_pem = Field(*status, "clientKeyData");
  if (credentials.certificate_pem.empty() != credentials.key_pem.empty()) {
    return Bad(plugin, "printed only one of clientCertificateData and clientKeyData");
  }
  if (credentials.token.empty() && credentials.certificate_pem.empty()) {
    return Bad(plugin, "printed neither a token nor a certificate");
  }
  if (const std::string expires = Field(*status, "expirationTimestamp"); !expires.empty()) {
    credentials.expires = ParseTime(expires);
    if (!credentials.expires) return Bad(plugin, "printed an expirationTimestamp that is no time");
  }
  return credentials;
}

}  // namespace muster::k8s
