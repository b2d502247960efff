#include "launcher/platform/kubernetes/fleet_spread.h"

#include <algorithm>

namespace muster::fleet {
namespace {

bool Counts(const Pool& pool) { return pool.growth.mode != Growth::Mode::kOpportunistic; }

int MaxPods(const Pool& pool) { return pool.workers.max / pool.device_count; }

}  // namespace

std::map<std::string, WorkerRange> SpreadOverPools(const std::vector<Pool>& pools,
                                                   WorkerRange workers) {
  std::map<std::string, WorkerRange> pods;
  for (const Pool& pool : pools) pods[pool.name] = {0, 0};
  int max_left = workers.max;
  int min_left = workers.min;
  const auto give = [&](const Pool& pool, int wanted) {
    WorkerRange& range = pods[pool.name];
    const int count =
        std::clamp(max_left / pool.device_count, 0, std::min(wanted, MaxPods(pool) - range.max));
    range.max += count;
    max_left -= count * pool.device_count;
  };
  for (const Pool& pool : pools) {
    give(pool, pool.workers.min / pool.device_count);
    if (!Counts(pool)) continue;
    pods[pool.name].min = pods[pool.name].max;
    min_left -= pods[pool.name].min * pool.device_count;
  }
  for (const Pool& pool : pools) give(pool, MaxPods(pool));
  for (const Pool& pool : pools) {
    if (!Counts(pool) || min_left <= 0) continue;
    WorkerRange& range = pods[pool.name];
    const int more =
        std::min((min_left + pool.device_count - 1) / pool.device_count, range.max - range.min);
    range.min += more;
    min_left -= more * pool.device_count;
  }
  return pods;
}

}  // namespace muster::fleet
