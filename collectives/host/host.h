// The host backend: the CPU transport. TCP between workers; between workers of one machine (proven by the handshake: equal
// boot ids and a memfd that arrived over a Unix socket and maps) the data stays in shared memory and only notices
// travel over the socket.
//
// A process never writes into memory of another one: a stopped worker that wakes up after its eviction can spoil nothing.
// Every connection is authenticated in both directions with the job's secret (HMAC-SHA256 over fresh nonces).
#pragma once

#include <memory>
#include <string>

#include "collectives/communicator.h"

namespace muster {

struct HostOptions {
  std::string listen_address = "127.0.0.1";  // IP address to bind and to tell the peers
  std::string job;                           // job id; a peer of another job is refused
  std::string secret;                        // the job's secret, at least 16 bytes
  bool shared_memory = true;       // false: TCP even within a machine (for tests and comparison)
  size_t chunk_bytes = 512 << 10;  // unit of TCP transfer and of cache-hot reduction

  // Errors: kInvalidArgument, naming the field.
  Status Validate() const;
};

// Opens the listeners (TCP, and an abstract Unix socket that leaves no file). Errors: kInvalidArgument, kUnavailable.
Result<std::unique_ptr<Backend>> CreateHostBackend(const HostOptions& options);

}  // namespace muster
