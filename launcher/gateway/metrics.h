// Metrics: the figures of a job as Prometheus text. Few and the same for any number of workers: no label names a worker or rank.
//
// Threading: pure functions.
#pragma once

#include <map>
#include <string>

#include "launcher/gateway/gateway_source.h"

namespace muster {

// `answers`: how often the gateway has answered with each HTTP status.
std::string MetricsText(const GatewayFigures& figures, const std::map<int, uint64_t>& answers);

}  // namespace muster
