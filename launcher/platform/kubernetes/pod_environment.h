// PodEnvironment: what objects.h tells the containers of a run through environment variables, read once at the start.
//
// Threading: plain values.
#pragma once

#include <filesystem>
#include <string>

#include "launcher/job/job.h"
#include "runtime/base/status.h"

namespace muster::kubernetes {

struct PodEnvironment {
  std::string run;             // MUSTER_RUN: the name of the run's ConfigMap
  std::string job;             // MUSTER_JOB: the id of the run
  std::string name_space;      // MUSTER_NAMESPACE
  std::string pod;             // MUSTER_POD_NAME
  std::string pod_ip;          // MUSTER_POD_IP
  std::filesystem::path home;  // MUSTER_HOME: a folder that can be written
  std::string secret;          // the content of the file kSecretKey
  // Of workers.
  std::string coordinator;  // MUSTER_COORDINATOR: IP:PORT
  std::string pool;         // MUSTER_POOL
  int devices = 1;          // MUSTER_DEVICES: workers of this pod

  // What the processes of a pod keep: a job folder of its own.
  JobFolder folder() const { return JobFolder(home / ".muster"); }
};

// Errors: kFailedPrecondition naming the variable that is missing or not what it should be; those of reading the secret.
Result<PodEnvironment> ReadPodEnvironment(bool worker);

}  // namespace muster::kubernetes
