#include "runtime/train/catch_up.h"

#include <algorithm>
#include <utility>

#include "runtime/base/bytes.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/low_priority.h"

namespace muster {

namespace {

// A state up to this size is copied in less time than a round of following takes.
constexpr size_t kCopiedAtOnce = 1 << 20;

Result<std::vector<Introduction>> Introduce(Communicator& communicator, const Introduction& mine) {
  std::vector<Introduction> all(static_cast<size_t>(communicator.size()));
  MUSTER_TRY(communicator.AllGather(BytesOf(mine), std::as_writable_bytes(std::span(all))));
  return all;
}

}  // namespace

CatchUp::CatchUp(StepEngine& engine, Backend& backend, JoinMode mode, Callbacks callbacks)
    : engine_(engine), mode_(mode), callbacks_(std::move(callbacks)), memory_(backend, engine) {}

bool CatchUp::IsPlain() const {
  const bool small = engine_.state().image().size() <= kCopiedAtOnce;
  return mode_ == JoinMode::kPlain || (mode_ == JoinMode::kAuto && small);
}

Status CatchUp::Run(Communicator& communicator, uint64_t trains_in, const Ready& ready,
                    std::stop_token stop) {
  MUSTER_ASSIGN(const std::vector<Introduction> all,
                Introduce(communicator, {engine_.program_hash(), trains_in}));
  (void)Failpoint("join.introduced");
  std::vector<int> donors;
  std::vector<int> joiners;
  bool same_program = true;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    (all[rank].trains_in != 0 ? donors : joiners).push_back(static_cast<int>(rank));
    same_program = same_program && all[rank].program == all[0].program;
  }
  // Without one of them there is nothing to give; that programs differ is said when the generation is entered (state_sync.h).
  if (donors.empty() || joiners.empty() || !same_program) {
    ready(donors);
    return {};
  }
  if (trains_in != 0 && !IsPlain()) MUSTER_TRY(memory_.Prepare());
  // The joiner takes rounds of all donors together, and so they begin together.
  MUSTER_TRY(Introduce(communicator, {engine_.program_hash(), trains_in}));
  if (trains_in != 0) {
    return Give(
        communicator, donors, std::move(joiners), [&] { ready(donors); }, std::move(stop));
  }
  MUSTER_TRY(Follow(communicator, donors, std::move(stop)));
  ready(donors);
  return {};
}

Status CatchUp::Give(Communicator& communicator, const std::vector<int>& donors,
                     std::vector<int> joiners, const std::function<void()>& ready,
                     std::stop_token stop) {
  const auto index = std::ranges::find(donors, communicator.rank()) - donors.begin();
  auto donation = std::make_shared<Donation>(communicator, engine_, memory_, std::move(joiners),
                                             static_cast<size_t>(index), donors.size());
  if (IsPlain()) return donation->ServePlain(ready);
  {
    std::lock_guard lock(mutex_);
    donation_ = donation;
  }
  Status served;
  RunAtLowPriority([&] { served = donation->Serve(ready, std::move(stop)); });
  std::lock_guard lock(mutex_);
  donation_.reset();
  return served;
}

Status CatchUp::Follow(Communicator& communicator, const std::vector<int>& donors,
                       std::stop_token stop) {
  const std::stop_callback revoke(
      stop, [&] { communicator.Revoke("another generation is being prepared"); });
  Result<Followed> followed;
  RunAtLowPriority(
      [&] { followed = Follower(communicator, engine_, donors, callbacks_.lose).Run(); });
  if (!followed) return tl::unexpected(followed.error());
  if (followed->whole) callbacks_.adopt();
  Tell(*followed);
  return {};
}

void CatchUp::Tell(const Followed& followed) {
  if (followed.too_slow) {
    callbacks_.notice(
        "join-slow",
        fmt::format("cannot catch up: the members take a step every {:.3f} s, and receiving and "
                    "applying one took up to {:.3f} s here; they wait while the state is copied",
                    followed.step_seconds, followed.apply_seconds));
  } else if (!followed.plain) {
    callbacks_.notice("caught-up",
                      fmt::format("caught up in {} steps with {:.1f} MB, {:.3f} s a step at most",
                                  followed.rounds, static_cast<double>(followed.bytes) / 1e6,
                                  followed.apply_seconds));
  }
}

std::shared_ptr<Donation> CatchUp::donation() {
  std::lock_guard lock(mutex_);
  return donation_;
}

Status CatchUp::AfterOutcome(double step_seconds, uint64_t next) {
  const auto donation = this->donation();
  if (!donation) return {};
  return donation->Give(step_seconds, next == donation->generation());
}

void CatchUp::AwaitEnd(uint64_t generation) {
  const auto donation = this->donation();
  if (donation && donation->generation() == generation) donation->AwaitEnd();
}

}  // namespace muster
