// FleetOptions: how many pods a job wants, how eagerly it asks for them, and how long it waits for what.
//
// Threading: plain values.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "launcher/job/job.h"
#include "launcher/jobfile/job_file.h"
#include "runtime/base/backoff.h"
#include "runtime/base/time.h"

namespace muster::fleet {

struct PoolOptions {
  std::string name;
  WorkerRange pods{0, 0};  // counted in pods; see SpreadOverPools
  Growth growth;
  std::string pod_part;  // what stands for it in the names of its pods; empty: `name`
};

struct FleetOptions {
  std::string run;         // the id of the run, which our pods carry as a label
  std::string pod_prefix;  // pods are named PREFIX-POOL-SERIAL; see `pod_part`
  std::vector<PoolOptions> pools;

  size_t max_creates_in_flight = 96;
  int64_t serial_block = 64;  // serials that are made durable at once, at least
  Duration create_timeout =
      std::chrono::seconds(30);  // without an answer for so long, lists must tell whether it exists
  Duration delete_timeout = std::chrono::seconds(15);  // until a delete is sent again
  // Pause of a pool whose creates are refused (quota, rights).
  BackoffPolicy refused{std::chrono::seconds(5), std::chrono::minutes(5)};

  Duration grace = std::chrono::seconds(30);  // terminationGracePeriodSeconds of our pods
  // A pod that terminates this much longer than `grace` is removed by force: its node is dead.
  Duration terminating_deadline = std::chrono::seconds(60);
  // One whose worker the ring does without is removed by force so long after both are true: an agent that lives needs 10 s at most.
  Duration left_deadline = std::chrono::seconds(15);

  Duration list_gap = std::chrono::seconds(2);       // between a list and the one that confirms it
  Duration list_timeout = std::chrono::seconds(30);  // until a list is asked for again

  // At most max(1, fraction x pods) are deleted in `brake_interval`, unless the user has asked for it.
  double brake_fraction = 0.1;
  Duration brake_interval = std::chrono::seconds(1);

  // A start that has not led to a ring by then is given up: its pods are deleted, and asked for again after a pause.
  Duration gang_deadline = std::chrono::minutes(15);
  BackoffPolicy gang_pause{std::chrono::seconds(60), std::chrono::minutes(16)};
  int gang_retries = 5;

  // A pod beyond the minimum that has waited so long is withdrawn, and asked for again after a pause.
  Duration unmet_deadline = std::chrono::minutes(10);
  BackoffPolicy unmet_pause{std::chrono::minutes(2), std::chrono::minutes(30)};

  // A pod that ends sooner after its start has crashed.
  Duration quick_end = std::chrono::seconds(30);
  BackoffPolicy crash_pause{std::chrono::seconds(1), std::chrono::minutes(2)};
  int crash_limit = 5;  // rounds in a row after which its pool asks for no more pods
  // A pod that runs beside a ring without joining it for so long is replaced.
  Duration join_deadline = std::chrono::minutes(5);

  Duration finished_kept = std::chrono::minutes(5);  // a pod that has ended, for its log
  Duration tombstone_kept =
      std::chrono::minutes(10);  // names of pods that are gone; late news of them is ignored
};

}  // namespace muster::fleet
