// Job: what a local job is (JobSpec) and where its files lie (JobFolder).
//
// A job folder is $MUSTER_HOME/jobs/NAME/ and holds:
//   job.json          JobSpec, written once by `launcher run`
//   secret            64 hex digits, mode 0600: whoever can read it may talk to the coordinator
//   lock              flock()ed by the supervisor as long as it lives; a free lock means that
//   nobody runs the job coordinator.json  {"address": "127.0.0.1:PORT", "pid": N}, written by the
//   coordinator each time it starts journal           the coordinator's durable state events.jsonl
//   what `launcher events` shows, one object a line, appended by the coordinator status.json the
//   object of `launcher status -o json`, replaced atomically by the coordinator result.json the
//   `finished` object of the job; exists once the job has ended logs/             w-3.log (worker
//   output), w-3.log.1 (its older part), coordinator.log, agent-w-3.log, supervisor.log
// and, for a job whose operators are not on this machine (docs/gateway.md), never made by `launcher run` itself:
//   gateway           "ADDRESS:PORT" where the coordinator serves HTTP too
// and, for a job that runs on a cluster and not here:
//   cluster.json      ClusterPlace: where its run is. The lock is then held by the `launcher run` that follows it, if there is one
//
// Threading: plain values and const methods; safe from any thread. Writers replace whole files
// atomically.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace muster {

inline constexpr int kMaxWorkers = 4096;

// How many workers a job wants: "4" is {4, 4}, "2:8" is {2, 8}.
struct WorkerRange {
  int min = 1;
  int max = 1;
  bool operator==(const WorkerRange&) const = default;
};

struct JobSpec {
  std::string name;  // [a-z0-9-], 1 to 63 characters
  std::string id;    // 32 hex digits, new for every run; fences messages of another run
  std::filesystem::path executable;  // absolute path of the program
  std::vector<std::string>
      argv;  // argv[0] as the user typed it, then the program's arguments, verbatim
  std::filesystem::path cwd;  // absolute; workers start here
  std::string
      bundle;  // SHA-256 of the manifest of what agents fetch into cwd first; empty: nothing
  std::map<std::string, std::string> environment;  // for the workers, over ours; no MUSTER_ names
  // Fewer for longer than start_timeout_ms fails the job; 1 to max_workers. Equal to max_workers:
  // all are needed to start, one is enough to go on.
  int min_workers = 1;
  int max_workers = 1;               // slots that are started; 1 to kMaxWorkers
  std::string reduce = "exact";      // exact | float
  std::string collectives = "auto";  // auto | host | nccl
  std::string device = "auto";       // auto | cpu | cuda | cuda:N, of a worker
  std::filesystem::path checkpoint;  // absolute folder; empty: no checkpoints
  uint64_t checkpoint_every = 100;  // steps between checkpoints; 0: only when the job ends or stops
  bool resume = false;              // start from the newest good checkpoint; needs `checkpoint`
  int heartbeat_timeout_ms = 3000;  // a member silent for longer is evicted; 100 to 600,000
  int step_timeout_ms = 60000;   // a member whose step takes longer is evicted; 100 to 86,400,000
  int start_timeout_ms = 60000;  // longest wait for min_workers members; 100 to 86,400,000
  bool detached = false;
  int64_t supervisor_pid = 0;
  int64_t created_ms = 0;  // unix time

  // Errors: kInvalidArgument, naming the field, its value and its range.
  Status Validate() const;

  // The content of job.json, and back. Errors: kInvalidArgument (not JSON, a field missing or of
  // the wrong type, or Validate() refuses it).
  std::string ToJson() const;
  static Result<JobSpec> FromJson(std::string_view text);

  bool operator==(const JobSpec&) const = default;
};

// Whether `name` may name a job: 1 to 63 characters of [a-z0-9-], beginning and ending with a
// letter or digit.
bool IsJobName(std::string_view name);

// The slot (and worker) ids of a job with `count` slots: "w-0", "w-1", ...
std::vector<std::string> SlotNames(int count);

// The content of coordinator.json.
struct CoordinatorAddress {
  std::string address;  // "127.0.0.1:PORT"
  int64_t pid = 0;
  std::string gateway;  // "ADDRESS:PORT" of its HTTP interface; empty: it has none
  bool operator==(const CoordinatorAddress&) const = default;
};

// The content of the file `gateway`.
struct GatewayPlace {
  std::string address;  // an IP address
  int port = 0;         // 0: any free one
  bool operator==(const GatewayPlace&) const = default;
};

// The content of cluster.json: where the run of a job is, and how to reach it. Empty texts are as for kubectl: the environment's
// kubeconfig, its current context.
struct ClusterPlace {
  std::string kubeconfig;  // absolute path
  std::string context;
  std::string namespace_name;
  std::string run;  // the name of its ConfigMap
  std::string uid;  // of that ConfigMap; empty: it was about to be made
  bool operator==(const ClusterPlace&) const = default;
};

class JobFolder {
 public:
  explicit JobFolder(std::filesystem::path root) : root_(std::move(root)) {}

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path spec() const { return root_ / "job.json"; }
  std::filesystem::path secret() const { return root_ / "secret"; }
  std::filesystem::path lock() const { return root_ / "lock"; }
  std::filesystem::path coordinator() const { return root_ / "coordinator.json"; }
  std::filesystem::path gateway() const { return root_ / "gateway"; }
  std::filesystem::path cluster() const { return root_ / "cluster.json"; }
  std::filesystem::path journal() const { return root_ / "journal"; }
  std::filesystem::path events() const { return root_ / "events.jsonl"; }
  std::filesystem::path status() const { return root_ / "status.json"; }
  std::filesystem::path result() const { return root_ / "result.json"; }
  std::filesystem::path logs() const { return root_ / "logs"; }
  std::filesystem::path WorkerLog(const std::string& worker) const {
    return logs() / (worker + ".log");
  }

  // Errors of the readers: kNotFound or kPermissionDenied from the file system, kInvalidArgument
  // for bad content.
  Result<JobSpec> ReadSpec() const;
  Result<std::string> ReadSecret() const;  // 64 hex digits, without the newline
  Result<CoordinatorAddress> ReadCoordinator() const;
  Result<GatewayPlace> ReadGateway() const;
  Result<ClusterPlace> ReadCluster() const;  // kNotFound: a job of this machine

  Status WriteSpec(const JobSpec& spec) const;
  Status WriteSecret(const std::string& secret) const;
  Status WriteCoordinator(const CoordinatorAddress& address) const;
  Status WriteCluster(const ClusterPlace& place) const;

 private:
  std::filesystem::path root_;
};

}  // namespace muster
