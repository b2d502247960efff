#include "launcher/bundle/share_core.h"

#include <algorithm>

namespace muster {
namespace {

constexpr std::chrono::milliseconds kExpireEvery{100};  // a look at everybody

}  // namespace

void ShareCore::Hold(const std::string& agent, const std::string& address, TimePoint now) {
  if (const auto fetcher = fetchers_.find(agent); fetcher != fetchers_.end()) {
    Release(fetcher->second);
    fetchers_.erase(fetcher);
  }
  const auto known = holders_.find(agent);
  if (known != holders_.end() && sources_[known->second].address == address) {
    sources_[known->second].heard = now;
    return;
  }
  if (known != holders_.end()) sources_.erase(known->second);
  holders_[agent] = next_source_;
  sources_[next_source_++] = {address, now, 0};
}

ShareAnswer ShareCore::Locate(const std::string& agent, bool failed, TimePoint now) {
  Expire(now);
  if (!fetchers_.contains(agent) && fetchers_.size() >= options_.max_fetchers) {
    return {.wait = WaitTime()};
  }
  Fetcher& fetcher = fetchers_[agent];
  fetcher.asked = now;
  if (failed && fetcher.source) {
    std::erase_if(fetcher.avoided, [now](const auto& entry) { return entry.second <= now; });
    fetcher.avoided[*fetcher.source] = now + options_.avoid;
  }
  Release(fetcher);
  fetcher.source = Choose(fetcher, options_.doubt, now);
  if (!fetcher.source) fetcher.source = Choose(fetcher, options_.silence, now);
  if (!fetcher.source) return {.wait = WaitTime()};
  Source& source = sources_[*fetcher.source];
  ++source.load;
  return {.found = true, .address = source.address, .turn = options_.turn};
}

size_t ShareCore::CountSources(TimePoint now) {
  Expire(now);
  return sources_.size();
}

void ShareCore::Release(const Fetcher& fetcher) {
  if (!fetcher.source) return;
  const auto source = sources_.find(*fetcher.source);
  if (source != sources_.end()) --source->second.load;
}

void ShareCore::Expire(TimePoint now) {
  if (now - expired_ < kExpireEvery) return;
  expired_ = now;
  std::erase_if(holders_, [&](const auto& holder) {
    const auto source = sources_.find(holder.second);
    if (now - source->second.heard <= options_.silence) return false;
    sources_.erase(source);
    return true;
  });
  std::erase_if(fetchers_, [&](const auto& entry) {
    if (now - entry.second.asked <= options_.lease) return false;
    Release(entry.second);
    return true;
  });
  waiting_ = std::ranges::count_if(
      fetchers_, [](const auto& entry) { return !entry.second.source.has_value(); });
}

// The one with the fewest fetchers, of those that were heard of lately; the coordinator, which has more to do, only if no agent has
// fewer.
std::optional<uint64_t> ShareCore::Choose(const Fetcher& fetcher, Duration silence,
                                          TimePoint now) const {
  std::optional<uint64_t> best;
  int best_load = options_.at_once;
  for (auto source = sources_.rbegin(); source != sources_.rend() && best_load > 0; ++source) {
    const auto avoided = fetcher.avoided.find(source->first);
    if (avoided != fetcher.avoided.end() && now < avoided->second) continue;
    if (source->second.load >= best_load) continue;
    if (source->first != kCoordinator && now - source->second.heard > silence) continue;
    best = source->first;
    best_load = source->second.load;
  }
  return best;
}

}  // namespace muster
