// What happens to the pods of a job, as FleetCore hears of it: from the API server, from the rendezvous, from the user, and the
// passing of time.
//
// Threading: plain values.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "launcher/job/job.h"
#include "runtime/base/time.h"

namespace muster::fleet {

enum class PodPhase { kPending, kRunning, kSucceeded, kFailed };

// A pod as the API server shows it. Texts are empty where it shows nothing.
struct PodView {
  std::string name;
  std::string uid;
  std::string run;  // the label with the id of the run
  PodPhase phase = PodPhase::kPending;
  bool terminating = false;         // has a deletionTimestamp
  std::string disruption;           // reason of the condition DisruptionTarget, if it is true
  std::string unscheduled_reason;   // of the condition PodScheduled, if it is false
  std::string unscheduled_message;  // the same
  std::string waiting_reason;       // of a container: ImagePullBackOff, ...
  std::string waiting_message;
  std::optional<int> exit_code;  // of a container that has ended
  int signal = 0;
  std::string exit_reason;  // OOMKilled, Error, ...
  std::string node;
};

// From a watch: added or modified. May come twice, late, or before the answer to the create.
struct PodSeen {
  PodView pod;
};
// From a watch: deleted. Never derived from a list; that is what PodsListed is for.
struct PodGone {
  std::string name;
  std::string uid;
};
// A complete list, the answer to ListPods or one that the watch needed. A failed one is no event.
struct PodsListed {
  std::vector<PodView> pods;
  TimePoint asked;  // when the request was sent
};

// The worker of that pod is in the ring, or is no more.
struct MemberJoined {
  std::string pod;
};
struct MemberLeft {
  std::string pod;
};

// At most one for each CreatePod; it may get lost.
struct CreateAnswered {
  enum class Result {
    kOk,
    kExistsOurs,     // a pod of that name and of our run is there
    kExistsForeign,  // a pod of that name is there, and not ours
    kRefused,        // quota, or not allowed: `message`
    kBusy,           // not carried out; come back after `retry_after`
    kUnknown,        // the connection broke: carried out or not
  };
  std::string name;
  Result result = Result::kOk;
  std::string uid;  // kOk, kExistsOurs
  std::string message;
  Duration retry_after{};
};
struct DeleteAnswered {
  enum class Result { kOk, kNotFound, kBusy, kFailed };
  std::string name;
  std::string uid;
  Result result = Result::kOk;
  std::string message;     // kFailed
  Duration retry_after{};  // kBusy
};

// The user wants another size: pods of each pool. Pools that are not named stay as they are.
struct Resized {
  std::map<std::string, WorkerRange> pods;
};
// The job has ended or is to end: all pods go.
struct Stopped {
  std::string reason;
};
struct TimePassed {};

using FleetEvent = std::variant<PodSeen, PodGone, PodsListed, MemberJoined, MemberLeft,
                                CreateAnswered, DeleteAnswered, Resized, Stopped, TimePassed>;

}  // namespace muster::fleet
