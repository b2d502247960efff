// ExecCredential: the words between us and a credential plugin: what it is told in KUBERNETES_EXEC_INFO and what it prints. Pure.
//
// The formats are client.authentication.k8s.io/v1 and v1beta1, which are equal in all that is used here.
//
// Threading: plain values and free functions.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "k8s/client/kubeconfig.h"

namespace muster::k8s {

using WallTime = std::chrono::system_clock::time_point;

// Secrets that prove who we are. At most one of token and username is set.
struct Credentials {
  std::string token;
  std::string username;
  std::string password;
  std::string certificate_pem;
  std::string key_pem;
  std::optional<WallTime> expires;

  bool operator==(const Credentials&) const = default;
};

// The content of KUBERNETES_EXEC_INFO. `certificate_authority_pem` is the content of the cluster's, which may be in a file.
std::string ExecInfo(const ExecPlugin& plugin, const Cluster& cluster,
                     const std::string& certificate_authority_pem, bool interactive);

// What `plugin` printed, as credentials. Errors: kUnauthenticated if it is no ExecCredential of the version that was asked for or
// holds no credential; the message says what is missing and quotes nothing of the output, which may hold a secret.
Result<Credentials> ParseExecCredential(std::string_view output, const ExecPlugin& plugin);

// An RFC 3339 time, with fractions and any offset.
std::optional<WallTime> ParseTime(const std::string& text);

}  // namespace muster::k8s
