// JobGateway: the coordinator as the gateway's source, and as the outlet through which the gateway hears of events. It stands
// before another outlet and passes on all that it is told.
//
// Threading: as GatewaySource and JobOutlet. Ownership: control, outlet and bundle must outlive it. Shut it down after the shell has been
// stopped and before `control` goes.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "launcher/bundle/bundle_hub.h"
#include "launcher/gateway/gateway.h"
#include "launcher/job/job.h"
#include "launcher/rendezvous/job_control.h"
#include "runtime/base/thread_annotations.h"

namespace muster {

class JobGateway final : public GatewaySource, public JobOutlet {
 public:
  // Listens when it returns. Errors: those of Gateway::Create.
  // `bundle` may be null: the job has none.
  static Result<std::unique_ptr<JobGateway>> Create(const GatewayOptions& options,
                                                    const JobFolder& folder, JobControl& control,
                                                    JobOutlet& outlet, BundleHub* bundle = nullptr);

  Gateway& gateway() { return *gateway_; }
  // "ADDRESS:PORT" where it listens.
  std::string place() const { return fmt::format("{}:{}", address_, gateway_->port()); }

  // --- GatewaySource ---
  std::string StatusText() override;
  GatewayFigures Figures() override;
  EventPage EventsAfter(uint64_t after, size_t limit) override EXCLUDES(mutex_);
  Result<std::unique_ptr<TextStream>> OpenLog(const std::string& worker,
                                              std::optional<uint64_t> tail, bool follow) override;
  void Resize(int min_workers, int max_workers, Done done) override;
  void Stop(bool now, const std::string& reason, Done done) override;
  Result<std::string> BundleText() override;
  Result<std::string> PutChunk(const std::string& hash, const std::string& compressed) override;

  // --- JobOutlet ---
  void Send(const SendOrder& order) override { outlet_.Send(order); }
  void Send(const SendAgent& order) override { outlet_.Send(order); }
  void Send(const SetSlots& slots) override { outlet_.Send(slots); }
  void EventsChanged() override;
  void Progress(const std::string& json) override { outlet_.Progress(json); }
  void Finished(const std::string& json) override EXCLUDES(mutex_);

 private:
  JobGateway(std::string address, const JobFolder& folder, JobControl& control, JobOutlet& outlet,
             BundleHub* bundle)
      : address_(std::move(address)),
        folder_(folder),
        control_(control),
        outlet_(outlet),
        bundle_(bundle) {}

  bool finished() EXCLUDES(mutex_);
  void CountChanges();

  const std::string address_;
  const JobFolder folder_;
  JobControl& control_;
  JobOutlet& outlet_;
  BundleHub* const bundle_;
  Mutex mutex_;
  std::optional<std::string> finished_ GUARDED_BY(mutex_);
  // The gateway's thread has these.
  uint64_t next_to_count_ = 1;  // event
  uint64_t membership_changes_ = 0;
  uint64_t steps_redone_ = 0;
  std::unique_ptr<Gateway> gateway_;  // last: it ends first
};

}  // namespace muster
