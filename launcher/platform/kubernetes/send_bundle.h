// SendBundle: brings a job's files from this machine to the coordinator of its run, and again to one that was started anew while no
// agent has them.
//
// Threading: Serve() blocks its thread until it is stopped or cannot go on; four threads of its own send. Ownership: what the sender is
// given outlives it.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "launcher/bundle/local_bundle.h"
#include "launcher/platform/kubernetes/remote_run.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster::kubernetes {

struct SendListener {
  std::function<void(const std::string& sentence)> on_begin;  // there is something to send
  std::function<void(const std::string& sentence)> on_sent;   // the run has all
  std::function<void(const Error& error)> on_failed;          // it never will; Serve() returns
};

class BundleSender {
 public:
  // `what` is for people: "digits and 2 files, 14.2 MiB".
  // `look_every`: how often it is asked whether a coordinator has lost what it had.
  BundleSender(const RemoteRun& run, const LocalBundle& bundle, std::string what,
               SendListener listener, Duration look_every = std::chrono::seconds(5))
      : run_(run),
        bundle_(bundle),
        what_(std::move(what)),
        listener_(std::move(listener)),
        look_every_(look_every) {}

  // Sends what is missing, as often as something is. A coordinator that does not answer is asked again; why it does not, others tell.
  void Serve(const std::stop_token& stop);

 private:
  // Sends all of `chunks`, each once. Errors: the first one that was met.
  Status Send(const std::vector<std::string>& chunks, const std::stop_token& stop);
  Status SendOne(const std::string& chunk, uint64_t* bytes, const std::stop_token& stop);

  const RemoteRun& run_;
  const LocalBundle& bundle_;
  const std::string what_;
  const SendListener listener_;
  const Duration look_every_;
  uint64_t sent_ = 0;  // bytes, compressed
};

}  // namespace muster::kubernetes
