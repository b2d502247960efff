#include "k8s/client/credentials.h"

#include <algorithm>
#include <string>
#include <utility>

#include "k8s/client/subprocess.h"
#include "runtime/base/files.h"

namespace muster::k8s {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxSecretBytes = size_t{1} << 20;
constexpr Duration kLongestEarliness = std::chrono::seconds(30);

Result<std::string> ReadSecret(const fs::path& path, const char* what) {
  Result<std::string> content = ReadFile(path, kMaxSecretBytes);
  if (content) return content;
  return WithHint(tl::unexpected<Error>(content.error()),
                  fmt::format("the kubeconfig names this file as {}; check path and mode", what));
}

// Its content, or `pem` if that is set, or nothing if neither is.
Result<std::string> PemOf(const fs::path& path, const std::string& pem, const char* what) {
  if (!pem.empty() || path.empty()) return pem;
  return ReadSecret(path, what);
}

std::string Trimmed(const std::string& text) {
  const char* const space = " \t\r\n";
  const size_t first = text.find_first_not_of(space);
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(space) - first + 1);
}

tl::unexpected<Error> PluginFailed(const ExecPlugin& plugin, const SubprocessResult& result) {
  const std::string how = result.signal != 0
                              ? fmt::format("was ended by signal {}", result.signal)
                              : fmt::format("failed with exit code {}", result.exit_code);
  const std::string errors = Trimmed(result.errors);
  return WithHint(Err(Code::kUnauthenticated, "the credential plugin {} {}{}{}", plugin.command,
                      how, errors.empty() ? "" : ": ", errors),
                  "run it by hand; often it wants you to log in again");
}

}  // namespace

Result<std::string> CertificateAuthority(const Cluster& cluster) {
  return PemOf(cluster.certificate_authority, cluster.certificate_authority_pem,
               "certificate-authority");
}

CredentialSource::CredentialSource(Cluster cluster, User user, CredentialOptions options)
    : cluster_(std::move(cluster)), user_(std::move(user)), options_(std::move(options)) {}

Result<std::shared_ptr<const Credentials>> CredentialSource::Get(TimePoint deadline) {
  std::shared_ptr<const Credentials> previous;
  {
    MutexLock lock(mutex_);
    const auto nobody_loads = [this]() REQUIRES(mutex_) { return !loading_; };
    if (!loaded_.wait_until(mutex_, deadline, nobody_loads)) {
      return WithHint(Err(Code::kDeadlineExceeded, "still waiting for credentials"),
                      "the credential plugin of the kubeconfig takes long; run it by hand");
    }
    if (current_ != nullptr && options_.monotonic_now() < valid_until_) return current_;
    loading_ = true;
    previous = current_;
  }
  Result<Credentials> fresh = Load(deadline);

  MutexLock lock(mutex_);
  loading_ = false;
  loaded_.notify_all();
  if (fresh) {
    valid_until_ = ValidUntil(*fresh);
    // An unchanged value stays the same object, so that connections that were made with it go on being used.
    if (previous == nullptr || *previous != *fresh) {
      current_ = std::make_shared<const Credentials>(std::move(*fresh));
    } else {
      current_ = previous;
    }
    return current_;
  }
  // A file may be missing for the moment in which it is replaced. An expired credential of a plugin is of no use.
  if (current_ != nullptr && !user_.exec) {
    valid_until_ = options_.monotonic_now() + options_.file_period;
    return current_;
  }
  return tl::unexpected<Error>(std::move(fresh.error()));
}

void CredentialSource::Invalidate(const std::shared_ptr<const Credentials>& refused) {
  MutexLock lock(mutex_);
  if (current_ == refused) valid_until_ = TimePoint::min();
}

Result<Credentials> CredentialSource::Load(TimePoint deadline) const {
  MUSTER_ASSIGN(Credentials credentials, LoadFiles());
  // As kubectl does: a plugin is asked only if nothing else says who we are.
  const bool known = !credentials.token.empty() || !credentials.username.empty();
  if (!user_.exec || known) return credentials;
  MUSTER_ASSIGN(Credentials printed, RunPlugin(deadline));
  if (printed.certificate_pem.empty()) {
    printed.certificate_pem = std::move(credentials.certificate_pem);
    printed.key_pem = std::move(credentials.key_pem);
  }
  return printed;
}

Result<Credentials> CredentialSource::LoadFiles() const {
  Credentials credentials;
  credentials.username = user_.username;
  credentials.password = user_.password;
  credentials.token = user_.token;
  if (!user_.token_file.empty()) {
    const Result<std::string> text = ReadSecret(user_.token_file, "tokenFile");
    if (text && !Trimmed(*text).empty()) {
      credentials.token = Trimmed(*text);
    } else if (!text && user_.token.empty()) {
      return tl::unexpected<Error>(text.error());
    } else if (user_.token.empty()) {
      return WithHint(Err(Code::kUnauthenticated, "{} holds no token", user_.token_file.string()),
                      "the kubeconfig names this file as tokenFile");
    }
  }
  MUSTER_ASSIGN(
      credentials.certificate_pem,
      PemOf(user_.client_certificate, user_.client_certificate_pem, "client-certificate"));
  MUSTER_ASSIGN(credentials.key_pem, PemOf(user_.client_key, user_.client_key_pem, "client-key"));
  return credentials;
}

Result<Credentials> CredentialSource::RunPlugin(TimePoint deadline) const {
  const ExecPlugin& plugin = *user_.exec;
  const bool interactive =
      options_.has_terminal && plugin.interactive != ExecPlugin::Interactive::kNever;
  if (plugin.interactive == ExecPlugin::Interactive::kAlways && !interactive) {
    return WithHint(Err(Code::kUnauthenticated,
                        "the credential plugin {} wants to ask the user, and "
                        "there is no terminal",
                        plugin.command),
                    "log in from a terminal first, or use credentials that need nobody");
  }
  MUSTER_ASSIGN(const std::string authority, CertificateAuthority(cluster_));
  Subprocess run;
  run.command = plugin.command;
  run.args = plugin.args;
  for (const auto& [name, value] : plugin.env) run.changes.push_back(name + "=" + value);
  run.changes.push_back("KUBERNETES_EXEC_INFO=" +
                        ExecInfo(plugin, cluster_, authority, interactive));
  run.interactive = interactive;
  run.max_output_bytes = kMaxSecretBytes;
  run.deadline = std::min(deadline, MonotonicNow() + options_.plugin_timeout);
  Result<SubprocessResult> result = RunSubprocess(run);
  if (!result) {
    Error error = result.error();
    error.message = "the credential plugin of the kubeconfig: " + error.message;
    if (error.code == Code::kNotFound && !plugin.install_hint.empty())
      error.hint = plugin.install_hint;
    if (error.hint.empty()) error.hint = "run it by hand, or correct users[].user.exec";
    return tl::unexpected<Error>(std::move(error));
  }
  if (result->exit_code != 0) return PluginFailed(plugin, *result);
  return ParseExecCredential(result->output, plugin);
}

TimePoint CredentialSource::ValidUntil(const Credentials& credentials) const {
  const TimePoint now = options_.monotonic_now();
  // Without an expiry, what a plugin printed holds until the server refuses it.
  if (user_.exec && !credentials.expires) return TimePoint::max();
  if (!user_.exec) return now + options_.file_period;
  const Duration left = *credentials.expires - options_.wall_now();
  // A little early, so that it does not expire on its way.
  return now + left - std::clamp<Duration>(left / 10, Duration::zero(), kLongestEarliness);
}

}  // namespace muster::k8s
