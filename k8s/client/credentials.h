// CredentialSource: who we are, up to date: reads files again, runs the credential plugin again when what it gave expires.
//
// Threading: safe from any thread; of several callers one loads, the others wait for it. Ownership: keeps copies of its arguments.
// Invariant: what Get() returned stays valid as a value; nothing here is ever logged.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <optional>

#include "k8s/client/exec_credential.h"
#include "k8s/client/kubeconfig.h"
#include "runtime/base/status.h"
#include "runtime/base/thread_annotations.h"
#include "runtime/base/time.h"

namespace muster::k8s {

struct CredentialOptions {
  Duration file_period =
      std::chrono::minutes(1);  // files are read again after this; tokens in pods change each hour
  Duration plugin_timeout = std::chrono::minutes(1);  // for one run of a plugin
  bool has_terminal = false;                          // a plugin may ask the user something
  // The clocks, for tests.
  std::function<TimePoint()> monotonic_now = MonotonicNow;
  std::function<WallTime()> wall_now = [] { return std::chrono::system_clock::now(); };
};

class CredentialSource {
 public:
  CredentialSource(Cluster cluster, User user, CredentialOptions options = {});
  CredentialSource(const CredentialSource&) = delete;
  CredentialSource& operator=(const CredentialSource&) = delete;

  // The credentials to use now. From memory, or blocks until `deadline` for reading files or running the plugin (which the
  // plugin's own timeout may end earlier). If files cannot be read again, the last content counts for another period.
  // Errors: kUnauthenticated (the plugin failed or printed no credential; a file is empty), kNotFound, kPermissionDenied (a file, the
  // plugin), kDeadlineExceeded. All with a hint.
  Result<std::shared_ptr<const Credentials>> Get(TimePoint deadline) EXCLUDES(mutex_);

  // The server refused `refused` (401): the next Get() loads again, unless somebody has done so already.
  void Invalidate(const std::shared_ptr<const Credentials>& refused) EXCLUDES(mutex_);

 private:
  Result<Credentials> Load(TimePoint deadline) const;
  Result<Credentials> LoadFiles() const;
  Result<Credentials> RunPlugin(TimePoint deadline) const;
  // Until when freshly loaded credentials may be used.
  TimePoint ValidUntil(const Credentials& credentials) const;

  const Cluster cluster_;
  const User user_;
  const CredentialOptions options_;

  Mutex mutex_;
  std::condition_variable_any loaded_;
  bool loading_ GUARDED_BY(mutex_) = false;
  std::shared_ptr<const Credentials> current_ GUARDED_BY(mutex_);
  TimePoint valid_until_ GUARDED_BY(mutex_);
};

// The PEM text of the cluster's certificate authority, read from its file if need be; empty if none is named.
// Errors: those of ReadFile, with a hint.
Result<std::string> CertificateAuthority(const Cluster& cluster);

}  // namespace muster::k8s
