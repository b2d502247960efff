// ShareCore: who fetches a bundle from whom, so that a thousand agents do not queue at one coordinator. A pure decision: what the
// coordinator hears and the time go in, a source comes out.
//
// The coordinator is a source as soon as it has the whole bundle, every agent is one as soon as it has. No source serves more than
// `at_once` fetchers; so the number of sources grows by that factor with each round, and the rounds are logarithmic.
// A fetcher has its source for a `turn`; what it has not got by then it asks for again, elsewhere maybe. If it dies, its place is free
// again when the lease is over.
//
// Invariant: the load of a source is the number of leases on it.
//
// Threading: none; the shell (bundle_hub.h) serialises calls.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "runtime/base/time.h"

namespace muster {

struct ShareOptions {
  int at_once = 4;                            // fetchers of one source
  Duration turn = std::chrono::seconds(20);   // what a fetcher is told
  Duration lease = std::chrono::seconds(60);  // turn, and one chunk that takes its whole deadline
  // An agent says twice a second that it is there. One not heard of for longer than `doubt` is a source only if there is no other
  // one, and after `silence` none at all: a dead machine costs who asks it a second or more.
  Duration doubt = std::chrono::milliseconds(750);
  Duration silence = std::chrono::seconds(2);
  // A source that has failed a fetcher is not given to it again so soon.
  Duration avoid = std::chrono::seconds(30);
  Duration ask_again = std::chrono::milliseconds(250);  // who finds no place; more if many wait
  size_t max_fetchers = 8192;
};

struct ShareAnswer {
  bool found = false;
  std::string address;  // "IP:PORT" of an agent; empty: the coordinator itself
  Duration turn{};      // found: for so long
  Duration wait{};      // not found: ask again after it
  bool operator==(const ShareAnswer&) const = default;
};

class ShareCore {
 public:
  explicit ShareCore(ShareOptions options) : options_(options) {}

  // The coordinator itself has all.
  void SetWhole() { sources_[kCoordinator]; }

  // The agent has all, and serves it at `address`; repeated as long as it does.
  void Hold(const std::string& agent, const std::string& address, TimePoint now);

  // An agent needs a source. `failed`: the one that it was given last did not serve it.
  ShareAnswer Locate(const std::string& agent, bool failed, TimePoint now);

  // How many sources there are; without any somebody has to send the bundle.
  size_t CountSources(TimePoint now);

 private:
  static constexpr uint64_t kCoordinator = 0;
  static constexpr int64_t kWaitersPerMillisecond = 4;

  struct Source {
    std::string address;
    TimePoint heard{};
    int load = 0;
  };
  struct Fetcher {
    TimePoint asked{};
    std::optional<uint64_t> source;  // whom it has a lease on
    std::map<uint64_t, TimePoint> avoided;
  };

  void Release(const Fetcher& fetcher);
  void Expire(TimePoint now);
  std::optional<uint64_t> Choose(const Fetcher& fetcher, Duration silence, TimePoint now) const;
  Duration WaitTime() const {
    return options_.ask_again + std::chrono::milliseconds(waiting_ / kWaitersPerMillisecond);
  }

  const ShareOptions options_;
  std::map<uint64_t, Source> sources_;  // by number: an agent that comes back is another one
  std::map<std::string, uint64_t> holders_;
  std::map<std::string, Fetcher> fetchers_;
  uint64_t next_source_ = kCoordinator + 1;
  TimePoint expired_{};
  int64_t waiting_ = 0;  // fetchers without a source, as of then
};

}  // namespace muster
