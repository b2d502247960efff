// JobFile: a job as a file describes it, for any platform. Text in, values or all errors out; no I/O.
//
// docs/job-file.md tells users about it; schema.h has the table of its keys.
//
// Threading: plain values and pure functions.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "launcher/job/job.h"
#include "launcher/jobfile/document.h"

namespace muster {

// How the pods of a pool that have no machine yet are asked for.
struct Growth {
  enum class Mode { kMax, kStep, kOpportunistic };
  Mode mode = Mode::kMax;
  int step = 0;  // kStep: pods that may wait at once
  bool operator==(const Growth&) const = default;
};

// "max", "step 4", "opportunistic".
std::string GrowthText(const Growth& growth);

struct Pool {
  std::string name;
  WorkerRange workers{0, 0};  // the minimum may be 0
  bool gpu = false;
  int device_count = 1;  // workers of one pod; divides both ends of `workers`
  std::vector<std::string> instance_types;
  std::map<std::string, std::string> node_selector;
  std::string capacity = "any";  // on-demand | spot | any
  std::string priority_class;    // empty: none
  Growth growth;
  bool drain = true;
  std::string cpu;     // a Kubernetes quantity; empty: not said
  std::string memory;  // the same
  bool operator==(const Pool&) const = default;
};

struct CheckpointRequest {
  std::string dir;  // as written
  std::optional<int64_t> every_steps;
  std::optional<bool> resume;
  bool operator==(const CheckpointRequest&) const = default;
};

struct ProgramRequest {
  std::string path;  // as written
  std::vector<std::string> args;
  bool operator==(const ProgramRequest&) const = default;
};

// What is not given is empty. Paths are as they are written; whoever reads the file knows what they are relative to.
struct JobFile {
  std::optional<std::string> name;
  std::optional<std::string> platform;  // local | kubernetes
  std::optional<ProgramRequest> program;
  std::optional<std::string> image;
  std::map<std::string, std::string> environment;
  std::optional<WorkerRange> workers;  // excludes `pools`
  std::vector<Pool> pools;
  std::optional<std::string> collectives;  // auto | host | nccl | mpi
  std::optional<std::string> device;       // auto | cpu | cuda | cuda:N
  std::optional<std::string> reduce;       // exact | float
  std::optional<CheckpointRequest> checkpoint;
  std::optional<int> heartbeat_timeout_ms;
  std::optional<int> step_timeout_ms;
  std::optional<int> start_timeout_ms;
  std::vector<std::string> files;

  // Where each given value stands: "pools[1].device.kind", "files[0]", "checkpoint.dir", "environment". Not compared.
  std::map<std::string, Position> places;

  // `workers`, or the total of the pools; nothing if neither is given.
  std::optional<WorkerRange> TotalWorkers() const;

  bool operator==(const JobFile& other) const;
};

// The job in `text`, YAML or JSON. Errors: all that is wrong with it, in the order of the file; after an error of syntax only what
// was wrong before it.
tl::expected<JobFile, std::vector<FileError>> ParseJobFile(std::string_view text);

// One error for each value that only Kubernetes can honour, in the order of the file. The message says which key and what it needs.
std::vector<FileError> NeedsKubernetes(const JobFile& job);

// The job as JSON, which ParseJobFile reads back as an equal one.
std::string ToJson(const JobFile& job);

// "FILE:LINE:COLUMN: sentence" for each error, one a line, at most `limit` of them and then how many more there are.
std::string FormatErrors(std::string_view file, const std::vector<FileError>& errors,
                         size_t limit = 20);

}  // namespace muster
