// FollowCore: what `launcher run` does while it follows a run on a cluster: what it tells the user, when it asks for a stop, when it
// deletes the run, and when it is over. Pure.
//
// While the job's files have not been sent yet, any signal deletes the run: without them it could not begin. Afterwards:
// Ctrl-C (SIGINT) and the end of the terminal (SIGHUP) end the following only; the run goes on. The first SIGTERM asks the
// coordinator to stop after the step, the second deletes the run.
//
// Threading: a plain value; one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/platform/kubernetes/remote_run.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster::kubernetes {

struct FollowAction {
  enum class Kind {
    kNote,    // `text` for the user
    kEvent,   // `text` is an event of the coordinator
    kStop,    // ask the coordinator to stop, until it has heard it
    kDelete,  // delete the run
    kDetach,  // it is over: the run goes on alone
    kEnd,     // it is over: `text` is the `finished` object
    kGone,    // it is over: the run is not there any more, and `text` says why
    kFailed,  // it is over: there will be no coordinator any more, and `text` says why
  };
  Kind kind;
  std::string text;
  bool operator==(const FollowAction&) const = default;
};

// Why a run is gone: by whom it was deleted.
std::string DeletionText(bool by_us);

class FollowCore {
 public:
  using Actions = std::vector<FollowAction>;

  // Events up to `last_sequence` have been seen before. `sending`: the job has files that the run does not have yet. `detach`: it is
  // followed only until it has them.
  explicit FollowCore(uint64_t last_sequence, bool sending = false, bool detach = false)
      : last_sequence_(last_sequence), sending_(sending), detach_(detach) {}

  // The stream of events began, said something, or ended (or did not begin).
  Actions Connected();
  Actions Line(const std::string& line);
  Actions Cut(const std::string& why);
  // What the API server shows while there is no stream, or why it shows nothing.
  Actions Looked(const RunLook& look);
  Actions LookFailed(const Error& error);

  // What becomes of the job's files. One that cannot be sent is the end of a run that does not have it yet.
  Actions Sending(const std::string& sentence);
  Actions Sent(const std::string& sentence);
  Actions SendFailed(const Error& error);

  Actions Signal(int number, TimePoint now);

  uint64_t last_sequence() const { return last_sequence_; }  // ask for events after it
  int ended_by() const { return ended_by_; }                 // the first SIGTERM; 0: none
  int left_by() const { return left_by_; }  // the signal that ended the following; 0: none did
  bool deleting() const { return deleting_; }

 private:
  // Tells the user, unless it is what was told last.
  void Explain(const std::string& sentence, Actions* actions);

  uint64_t last_sequence_;
  bool sending_;
  const bool detach_;
  bool connected_ = false;
  bool answered_ = false;  // has been connected once
  bool started_ = false;   // a coordinator has taken over the run, as far as is known
  bool over_ = false;
  bool deleting_ = false;
  int ended_by_ = 0;
  int left_by_ = 0;
  TimePoint ended_at_{};
  std::string explained_;  // the last sentence, while there is no stream
};

}  // namespace muster::kubernetes
