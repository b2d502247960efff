// LogServer: keeps what the pods of a node print, and serves it to the API server as a kubelet does: `kubectl logs` ends here.
//
//   pod -> pipe -> file, with the time of each piece -> GET /containerLogs/NAMESPACE/POD/CONTAINER, by HTTPS
//
// Threading: Open, AwaitEnd and Forget from the main thread; one thread of its own reads pipes and serves clients.
// Ownership: the files stay when it is destroyed. Clients are cut off then.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "runtime/base/status.h"
#include "runtime/base/time.h"
#include "runtime/base/unique_fd.h"

namespace muster::cluster {

inline constexpr int kKubeletPort = 10250;

struct LogServerOptions {
  std::string address;
  int port = kKubeletPort;
  // With machines.crt and machines.key, by which it is known, and ca.crt, which signs those who may ask.
  std::filesystem::path keys;
};

class LogServer {
 public:
  // Listens when it returns. Errors: kInternal (an address that is taken, keys that cannot be read), with the system's reason.
  static Result<std::unique_ptr<LogServer>> Create(const LogServerOptions& options);
  ~LogServer();
  LogServer(const LogServer&) = delete;
  LogServer& operator=(const LogServer&) = delete;

  // Begins the log of the only container of `pod` ("NAMESPACE/NAME"), in a new file. Returns where the pod's processes are to write.
  // An earlier log of that name is not served any more. Errors: kInternal (no file, no pipe).
  Result<UniqueFd> Open(const std::string& pod, const std::string& container,
                        const std::filesystem::path& file);
  // Waits until all is in the log that the pod's processes, which have ended, had written; at most until `deadline`. Once a pod.
  void AwaitEnd(const std::string& pod, TimePoint deadline);
  // The pod is gone; those who follow its log get the rest of it.
  void Forget(const std::string& pod);

 private:
  class Server;
  explicit LogServer(std::unique_ptr<Server> server);
  std::unique_ptr<Server> server_;
};

}  // namespace muster::cluster
