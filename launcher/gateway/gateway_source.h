// GatewaySource: what the gateway asks of a job. The coordinator implements it (launcher/rendezvous/job_gateway.h).
//
// Threading: the gateway calls it from its one thread, which serves all clients: no method waits for another process or thread.
// Reading a page of a file is fine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/status.h"

namespace muster {

// What /metrics shows of a job.
struct GatewayFigures {
  uint64_t step = 0;
  uint64_t generation = 0;
  int world_size = 0;
  int workers_wanted = 0;
  int workers_ready = 0;            // that train
  uint64_t membership_changes = 0;  // so far
  uint64_t steps_redone = 0;        // so far
};

struct EventPage {
  std::vector<std::string> lines;  // JSON objects without line breaks, in order
  uint64_t last = 0;  // number of the last of them; without any, the number that was asked with
  // The `finished` object, if the job had ended before the events were looked at: after the last page nothing comes.
  std::optional<std::string> finished;
};

// A text that is read piece by piece and may still grow.
class TextStream {
 public:
  struct Piece {
    std::string text;  // empty: nothing new for now
    bool end = false;  // nothing comes after it
  };
  virtual ~TextStream() = default;

  // What has appeared since the last call, some 64 KiB at most. Does not wait.
  virtual Piece Next() = 0;
};

class GatewaySource {
 public:
  virtual ~GatewaySource() = default;

  // The object of `launcher status -o json`.
  virtual std::string StatusText() = 0;
  virtual GatewayFigures Figures() = 0;

  // At most `limit` events whose numbers are above `after`.
  virtual EventPage EventsAfter(uint64_t after, size_t limit) = 0;

  // The output of a worker: its last `tail` lines, or all of it, and with `follow` what comes until the job ends.
  // Errors: kNotFound, with a hint where the log is; kInvalidArgument for what is no worker.
  virtual Result<std::unique_ptr<TextStream>> OpenLog(const std::string& worker,
                                                      std::optional<uint64_t> tail,
                                                      bool follow) = 0;

  // Called once, from any thread, with a JSON object or with the reason of a refusal.
  using Done = std::function<void(Result<std::string>)>;
  virtual void Resize(int min_workers, int max_workers, Done done) = 0;
  virtual void Stop(bool now, const std::string& reason, Done done) = 0;

  // How far the job's files have come, as a JSON object. Errors: kNotFound (the job has none).
  virtual Result<std::string> BundleText() = 0;
  // Keeps a compressed chunk of them; a JSON object. Checking it takes some 10 ms. Errors: kNotFound (the job has no files),
  // kInvalidArgument (none of its chunks), kDataLoss (damaged), or it cannot be kept.
  virtual Result<std::string> PutChunk(const std::string& hash, const std::string& compressed) = 0;
};

}  // namespace muster
