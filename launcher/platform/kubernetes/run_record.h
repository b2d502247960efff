// RunRecord: the run's ConfigMap as the memory of its coordinator, which only the newest coordinator may write.
//
// Whoever takes the run over writes the key `epoch`, one more than before. Every write has the resource version that was seen last as
// its precondition; where another write came in between, the record is read again, and its epoch tells whether it is still ours.
//
// Threading: safe from any thread; writes wait for each other. Ownership: the client outlives the record.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "k8s/client/api_client.h"
#include "runtime/base/status.h"
#include "runtime/base/thread_annotations.h"
#include "runtime/base/time.h"

namespace muster::kubernetes {

// What the API server accepts in all values of a ConfigMap together.
inline constexpr size_t kMaxRecordBytes = size_t{1} << 20;

class RunRecord {
 public:
  // Reads the ConfigMap and takes the run over. Blocks until the server has it, or until the deadline. Errors: kNotFound (the run has
  // been deleted), kDataLoss (its epoch is no number), those of ApiClient; after one the run may or may not have been taken.
  static Result<std::unique_ptr<RunRecord>> TakeOver(k8s::ApiClient& client,
                                                     const std::string& namespace_name,
                                                     const std::string& name, TimePoint deadline);

  // As of the take-over, with our epoch.
  const std::map<std::string, std::string>& data() const { return data_; }
  const std::string* Find(std::string_view key) const;  // in data(); nullptr if it is not there
  const std::string& uid() const { return uid_; }
  uint64_t epoch() const { return epoch_; }

  // Writes these keys, and leaves the others as they are. Blocks until the server has them or until the deadline, also where the
  // server is away or busy; after an error they may be written nevertheless. Errors:
  //   kFailedPrecondition  fenced: another coordinator has taken the run over; so ends every later call too
  //   kNotFound            the run has been deleted, or is being deleted; so ends every later call too
  //   kInvalidArgument     too large for a ConfigMap, or not UTF-8; nothing is sent
  //   kCancelled           `stop`
  //   others               of ApiClient; the record is still ours as far as is known
  Status Put(const std::map<std::string, std::string>& changes, TimePoint deadline,
             const std::stop_token& stop = {}) EXCLUDES(mutex_);

  // Whether the run is ours as far as is known, without asking: else kFailedPrecondition or kNotFound, as Put. Does not block.
  Status Ours() const EXCLUDES(mutex_);

 private:
  RunRecord(k8s::ApiClient& client, k8s::ObjectRef place, const nlohmann::json& object,
            uint64_t epoch);

  // One write at a time. Errors: kDeadlineExceeded, kCancelled, Ours().
  Status Begin(TimePoint deadline, const std::stop_token& stop) EXCLUDES(mutex_);
  void End() EXCLUDES(mutex_);
  Status CheckSize(const std::map<std::string, std::string>& changes) const;
  Status Write(const std::map<std::string, std::string>& changes, const k8s::Call& call);
  // After a conflict. Errors: as Put.
  Status ReadAgain(const k8s::Call& call);
  // Remembers what the record is now. Errors: it is not ours any more.
  Status Learn(const nlohmann::json& object);
  Status Lose(Error why) EXCLUDES(mutex_);

  k8s::ApiClient& client_;
  const k8s::ObjectRef place_;
  const std::map<std::string, std::string> data_;
  const std::string uid_;
  const uint64_t epoch_;

  // Of whoever writes, between Begin and End.
  std::string version_;
  std::map<std::string, size_t> sizes_;  // of the values that are there

  mutable Mutex mutex_;
  std::condition_variable_any free_;
  bool writing_ GUARDED_BY(mutex_) = false;
  std::optional<Error> lost_ GUARDED_BY(mutex_);  // why it is not ours any more
};

}  // namespace muster::kubernetes
