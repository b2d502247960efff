// Protocol: what the coordinator and the members say to each other, as plain values. The wire form is proto/muster.proto.
//
// Every message is fenced: a worker is known by (id, incarnation), a membership by its generation number; what carries an
// old one is refused or ignored.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/time.h"

namespace muster {

// A worker whose heartbeats a peer has missed for so long is evicted if the coordinator has missed them too: a third of the time
// after which the coordinator evicts it alone, but not below three of its heartbeats.
inline Duration TimeForTwoWitnesses(Duration heartbeat_timeout) {
  return std::max<Duration>(heartbeat_timeout / 3, std::chrono::milliseconds(300));
}

// What a worker says of itself when it registers, and again whenever its stream to the coordinator was cut.
struct Hello {
  std::string worker;        // stable id, "w-3"
  uint64_t incarnation = 0;  // larger for every new process under the same id
  std::string address;       // Backend::address()
  std::string host;          // for people
  std::string device;        // "cpu"
  int64_t pid = 0;
  int64_t micro_batches = 0;  // V: an upper bound of the world size
  int64_t batch_size = 0;     // samples per micro-batch
  uint64_t total_steps = 0;
  uint64_t generation = 0;  // the generation it is active in, 0 if none
  uint64_t entering = 0;    // the one it will enter without a vote, or waits in for the others
  uint64_t revoked = 0;     // the highest generation it knows to be dead
  uint64_t step = 0;        // committed steps in the state it holds
  bool has_state = false;
};

struct Member {
  std::string worker;
  uint64_t incarnation = 0;
  std::string address;
  bool operator==(const Member&) const = default;
};

// One agreed membership. Ranks are positions in `members`.
struct Generation {
  uint64_t number = 0;  // 1, 2, ...; 0 is none
  std::vector<Member> members;
  bool operator==(const Generation&) const = default;

  // The rank of `worker`, or -1.
  int RankOf(const std::string& worker) const;
};

// What the coordinator tells a worker. Orders to one worker arrive in order; after a reconnect the standing ones are
// repeated.
struct Order {
  enum class Kind {
    kGeneration,  // build `generation`: urgent = the current one is dead, switch at once; else prepare it and vote for it
    kStop,  // vote to stop: all members stop after the same step, with a checkpoint if one is configured
    kRejoin,   // you are in no generation any more (evicted, or late): say Hello as a joiner
    kRelease,  // you are not needed any more, or the job has ended: exit with code 0
  };
  Kind kind = Kind::kGeneration;
  Generation generation;
  bool urgent = false;
  std::string reason;  // the coordinator's sentence, for logs and users
};

// What a finished (or stopped) worker found. Must be equal on all members.
struct RunResult {
  uint64_t step = 0;
  double loss = 0;
  std::string weights;  // XXH3-128 of all parameters in order, 32 hex digits
  uint64_t samples_consumed = 0;
  uint64_t misses = 0;
  std::map<std::string, double> metrics;
  bool stopped = false;  // ended by kStop before the last step
  bool operator==(const RunResult&) const = default;
};

// What a member tells the coordinator. kProgress is the heartbeat and may be dropped; the others are repeated until taken.
struct Report {
  enum class Kind {
    kProgress,     // alive; latest step and figures
    kRevoked,      // `generation` is dead for me; `lost` is the worker I saw dying, if I saw one
    kBuildFailed,  // the communicator of `generation` could not be built; the active one lives
    kResumed,      // first step committed in `generation`; the *_ms fields say what the change cost
    kFailed,  // I cannot go on (error in `message`): a program or configuration error, not a lost peer
    kFinished,  // all steps are committed; `result`
    kNotice,  // something users should know (checkpoint written, refused, ...): `notice_kind`, `message`
  };
  Kind kind = Kind::kProgress;
  std::string worker;
  uint64_t incarnation = 0;
  uint64_t generation = 0;
  uint64_t prepared = 0;  // the generation it has built and votes for, 0 if none
  uint64_t step = 0;      // committed steps
  bool has_state = false;
  bool waiting = false;  // inside a collective (waiting for others), not computing
  double loss = 0;
  double step_seconds = 0;  // recent mean
  uint64_t samples_consumed = 0;
  std::string lost;  // kRevoked: worker id, or empty
  // kBuildFailed: the members it could not connect to; kRevoked: those whose heartbeats did not come.
  std::vector<std::string> unreachable;
  std::string message;  // reason or text
  std::string
      notice_kind;  // kNotice: "checkpoint", "checkpoint-failed", "checkpoint-refused", "restore", ...
  double connect_ms = 0;  // kResumed: order received -> communicator built
  double state_ms = 0;    // kResumed: redo and state transfer
  double resume_ms = 0;   // kResumed: first step of the generation
  int steps_redone = 0;   // kResumed: steps computed again because of this change
  bool usage_error =
      false;  // kFailed: the user's configuration is at fault (exit code 2), not the program
  bool checkpoint_error = false;    // kFailed: no usable checkpoint (exit code 6)
  std::optional<RunResult> result;  // kFinished
};

}  // namespace muster
