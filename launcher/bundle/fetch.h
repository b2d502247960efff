// Fetch: how an agent gets the bundle of its job: it asks the coordinator for a source, takes chunks from there, checks each, and goes
// on elsewhere where one is damaged or does not answer.
//
// Threading: Fetch blocks its caller until it has all, until its patience ends or until it is cancelled; each call has a deadline.
// This header brings in gRPC; include it from .cc files only.
#pragma once

#include <map>
#include <string>

#include "launcher/bundle/chunk_store.h"
#include "launcher/client/client.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster {

struct FetchOptions {
  std::string coordinator;  // IP:PORT
  std::string job;
  std::string secret;
  std::string agent;
  std::string bundle;                              // the hash of its manifest
  Duration patience = std::chrono::minutes(15);    // without a new chunk
  Duration chunk_time = std::chrono::seconds(30);  // for one chunk
};

struct Fetched {
  Manifest manifest;
  std::map<std::string, int> chunks_from;  // address of an agent, or "coordinator"
};

// Fetches what the store lacks of the bundle. Errors: kCancelled; kDeadlineExceeded (patience) with the last reason; those of the file
// system.
Result<Fetched> Fetch(const FetchOptions& options, ChunkStore& store, Cancellation& cancellation);

// Tells the coordinator, and so the user, why the agent gives up. One attempt.
void ReportProblem(const FetchOptions& options, const std::string& problem);

}  // namespace muster
