#include "launcher/rendezvous/job_gateway.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/rendezvous/file_text.h"
#include "launcher/rendezvous/status_json.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kCountedAtOnce = 256;  // events

}  // namespace

Result<std::unique_ptr<JobGateway>> JobGateway::Create(const GatewayOptions& options,
                                                       const JobFolder& folder, JobControl& control,
                                                       JobOutlet& outlet, BundleHub* bundle) {
  std::unique_ptr<JobGateway> self(
      new JobGateway(options.address, folder, control, outlet, bundle));
  MUSTER_ASSIGN(self->gateway_, Gateway::Create(options, *self));
  return self;
}

bool JobGateway::finished() {
  MutexLock lock(mutex_);
  return finished_.has_value();
}

std::string JobGateway::StatusText() { return control_.StatusText(); }

GatewayFigures JobGateway::Figures() {
  const Json status = Json::parse(control_.StatusText());
  GatewayFigures figures;
  figures.step = status.at("step").get<uint64_t>();
  figures.generation = status.at("generation").get<uint64_t>();
  figures.world_size = status.at("world_size").get<int>();
  figures.workers_wanted = status.at("max_workers").get<int>();
  const Json& workers = status.at("workers");
  figures.workers_ready =
      static_cast<int>(std::count_if(workers.begin(), workers.end(), [](const Json& worker) {
        return worker.at("state") == "training";
      }));
  CountChanges();
  figures.membership_changes = membership_changes_;
  figures.steps_redone = steps_redone_;
  return figures;
}

// Each event is looked at once, so that a long log costs the first question only.
void JobGateway::CountChanges() {
  const uint64_t end = control_.NextEvent();
  while (next_to_count_ < end) {
    const std::vector<std::string> lines = control_.ReadEvents(next_to_count_, kCountedAtOnce);
    next_to_count_ = lines.empty() ? end : EventSequence(lines.back()) + 1;
    for (const std::string& line : lines) {
      const Json event = Json::parse(line, nullptr, false);
      // Only a change of the membership has them.
      if (!event.is_object() || !event.contains("steps_redone")) continue;
      ++membership_changes_;
      steps_redone_ += event.value("steps_redone", uint64_t{0});
    }
  }
}

EventPage JobGateway::EventsAfter(uint64_t after, size_t limit) {
  EventPage page;
  {
    MutexLock lock(mutex_);
    page.finished = finished_;  // looked at before the events: all of them came before it
  }
  page.last = after;
  // A number that is still to come, or the last that there is, is waited for.
  if (after + 1 == 0 || after + 1 >= control_.NextEvent()) return page;
  page.lines = control_.ReadEvents(after + 1, limit);
  if (!page.lines.empty()) page.last = EventSequence(page.lines.back());
  return page;
}

Result<std::unique_ptr<TextStream>> JobGateway::OpenLog(const std::string& worker,
                                                        std::optional<uint64_t> tail, bool follow) {
  // The name becomes part of a path.
  if (!IsJobName(worker)) {
    return WithHint(Err(Code::kInvalidArgument, "\"{}\" is no worker's id", worker),
                    "workers are named w-0, w-1, ...; /v1/status lists them");
  }
  auto text = FileText::Open(folder_.WorkerLog(worker), tail);
  if (!text) {
    return WithHint(
        Err(Code::kNotFound, "the coordinator has no output of {}", worker),
        "the output of a worker lies where its agent runs: on a cluster ask for the log "
        "of its pod; /v1/status names the host of each worker");
  }
  if (follow) (*text)->FollowUntil([this] { return finished(); });
  return std::unique_ptr<TextStream>(std::move(*text));
}

void JobGateway::Resize(int min_workers, int max_workers, Done done) {
  const Status possible = control_.CheckResize(min_workers, max_workers);
  if (!possible) return done(tl::unexpected(possible.error()));
  const Json answer = {{"min_workers", min_workers}, {"max_workers", max_workers}};
  control_.Submit(ResizeRequested{min_workers, max_workers},
                  [done, text = answer.dump()](const Status& status) {
                    done(status ? Result<std::string>(text) : tl::unexpected(status.error()));
                  },
                  {});
}

void JobGateway::Stop(bool now, const std::string& reason, Done done) {
  const Json answer = {{"stopping", true}, {"now", now}};
  control_.Submit(StopRequested{now, reason},
                  [done, text = answer.dump()](const Status& status) {
                    done(status ? Result<std::string>(text) : tl::unexpected(status.error()));
                  },
                  {});
}

Result<std::string> JobGateway::BundleText() {
  if (bundle_ != nullptr) return bundle_->StateText();
  return Err(Code::kNotFound, "the job has no files of its own");
}

Result<std::string> JobGateway::PutChunk(const std::string& hash, const std::string& compressed) {
  if (bundle_ != nullptr) return bundle_->Put(hash, compressed);
  return Err(Code::kNotFound, "the job has no files of its own");
}

void JobGateway::EventsChanged() {
  outlet_.EventsChanged();
  gateway_->EventsChanged();
}

void JobGateway::Finished(const std::string& json) {
  {
    MutexLock lock(mutex_);
    finished_ = json;
  }
  outlet_.Finished(json);
  gateway_->EventsChanged();
}

}  // namespace muster
