#include "launcher/platform/kubernetes/fleet_setup.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "launcher/platform/kubernetes/fleet_spread.h"
#include "launcher/platform/kubernetes/names.h"

namespace muster::kubernetes {
namespace {

// The number that all of `text` is.
std::optional<int64_t> NumberOf(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  // "07" and "-0" are none that we write.
  if (std::to_string(number) != text || number < 0) return std::nullopt;
  return number;
}

}  // namespace

std::map<std::string, WorkerRange> PodsFor(const ClusterRun& run, WorkerRange workers) {
  std::vector<Pool> pools = PoolsOf(run);
  if (run.file.pools.empty()) pools[0].workers = {0, kMaxWorkers};
  return fleet::SpreadOverPools(pools, workers);
}

fleet::FleetOptions FleetOptionsOf(const ClusterRun& run, std::optional<WorkerRange> workers) {
  fleet::FleetOptions options;
  options.run = RunLabel(run.spec);
  options.pod_prefix = RunName(run.spec);
  options.grace = std::chrono::seconds(kGraceSeconds);
  std::map<std::string, WorkerRange> pods;
  if (workers) pods = PodsFor(run, *workers);
  for (const Pool& pool : PoolsOf(run)) {
    WorkerRange range{pool.workers.min / pool.device_count, pool.workers.max / pool.device_count};
    if (workers) range = pods[pool.name];
    options.pools.push_back({pool.name, range, pool.growth, PoolPart(pool.name)});
  }
  return options;
}

PodSlots::PodSlots(const ClusterRun& run) {
  for (const Pool& pool : PoolsOf(run)) {
    std::string pods = WorkerName(run.spec, pool.name, 0);
    pods.pop_back();
    pools_.push_back({std::move(pods), pool.name, pool.device_count});
  }
}

std::vector<std::string> PodSlots::OfPod(const std::string& pod) const {
  for (const PoolNames& pool : pools_) {
    if (!pod.starts_with(pool.pods)) continue;
    if (const auto serial = NumberOf(std::string_view(pod).substr(pool.pods.size()))) {
      return SlotsOfPod(pool.name, *serial, pool.devices);
    }
  }
  return {};
}

std::vector<std::string> PodSlots::OfPod(const std::string& name, int64_t serial) const {
  for (const PoolNames& pool : pools_) {
    if (pool.name == name) return SlotsOfPod(name, serial, pool.devices);
  }
  return {};
}

std::string PodSlots::PodOf(const std::string& slot) const {
  for (const PoolNames& pool : pools_) {
    std::string_view rest = slot;
    if (!rest.starts_with(pool.name + "-")) continue;
    rest.remove_prefix(pool.name.size() + 1);
    if (pool.devices > 1) {
      const size_t dash = rest.find('-');
      if (dash == rest.npos) continue;
      const auto device = NumberOf(rest.substr(dash + 1));
      if (!device || *device >= pool.devices) continue;
      rest = rest.substr(0, dash);
    }
    if (const auto serial = NumberOf(rest)) return fmt::format("{}{}", pool.pods, *serial);
  }
  return "";
}

}  // namespace muster::kubernetes
