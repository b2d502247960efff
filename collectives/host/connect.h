// Connecting a generation: rank i connects to every rank below it and claims the connections of every rank above it.
//
// Threading: blocks the calling thread; several generations may connect at once in different threads.
#pragma once

#include <memory>
#include <stop_token>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/host/handshake.h"
#include "collectives/host/listener.h"

namespace muster::host {

// The connections to all peers, in rank order; the one at request.rank is empty. Retries with backoff until the
// connect_timeout. Errors: as Backend::Connect, and kInvalidArgument (an address or an option of a peer does not fit).
Result<std::vector<Connection>> ConnectPeers(const ConnectRequest& request, Listener& listener,
                                             std::shared_ptr<const Credentials> credentials,
                                             std::stop_token stop);

}  // namespace muster::host
