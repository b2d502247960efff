// Signals: the signals and wake-ups of a single-threaded event loop as readable descriptors.
//
// Threading: create both before any other thread starts, so that every thread inherits the mask.
// Notify() is safe from any thread; the rest belongs to the loop's thread.
#pragma once

#include <csignal>
#include <initializer_list>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/base/unique_fd.h"

namespace muster {

// Keeps `signals` waiting in this thread, and in those it starts, until a SignalFd reads them or UnblockSignals lets them act.
void BlockSignals(std::initializer_list<int> signals);
void UnblockSignals(std::initializer_list<int> signals);

class SignalFd {
 public:
  // Blocks `signals` and ignores SIGPIPE. Those that have come since they were blocked earlier are read too.
  static Result<SignalFd> Create(std::initializer_list<int> signals);

  int fd() const { return fd_.get(); }
  // The signals that have arrived since the last call; does not block.
  std::vector<int> Read() const;
  // Lets the signals act as usual again.
  void Release();

 private:
  UniqueFd fd_;
  sigset_t signals_{};
};

// Wakes a poll() from another thread.
class WakeFd {
 public:
  static Result<WakeFd> Create();
  int fd() const { return fd_.get(); }
  void Notify() const;
  void Clear() const;

 private:
  UniqueFd fd_;
};

// Opens /dev/null in the place of a closed stdin, stdout or stderr, so that no later file gets
// their number.
void FillStandardDescriptors();

}  // namespace muster
