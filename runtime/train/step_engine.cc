#include "runtime/train/step_engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "runtime/base/check.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/hash.h"
#include "runtime/train/host_math.h"

namespace muster {

namespace {

std::vector<size_t> Sizes(const std::vector<Parameter>& parameters) {
  std::vector<size_t> sizes;
  for (const Parameter& parameter : parameters)
    sizes.push_back(static_cast<size_t>(parameter.size()));
  return sizes;
}

Status ValidateParameters(const std::vector<Parameter>& parameters) {
  if (parameters.empty()) return Err(Code::kInvalidArgument, "the model has no parameters");
  std::set<std::string> names;
  for (const Parameter& parameter : parameters) {
    if (!names.insert(parameter.name).second) {
      return Err(Code::kInvalidArgument, "two parameters are named '{}'", parameter.name);
    }
    if (parameter.size() < 1) {
      return Err(Code::kInvalidArgument, "parameter '{}' has no elements", parameter.name);
    }
  }
  return {};
}

std::vector<TensorSpec> StateTensors(const SessionSpec& spec, size_t blocks) {
  std::vector<TensorSpec> tensors;
  for (const Parameter& parameter : spec.parameters) {
    tensors.push_back({"parameter/" + parameter.name, "F32", parameter.shape});
  }
  for (const std::string& slot : spec.optimizer->Slots()) {
    for (const Parameter& parameter : spec.parameters) {
      tensors.push_back({"optimizer/" + slot + "/" + parameter.name, "F32", parameter.shape});
    }
  }
  tensors.push_back({"exact/exponents", "I16", {static_cast<int64_t>(blocks)}});
  return tensors;
}

ExactOptions MakeExactOptions(const SessionSpec& spec, size_t elements) {
  ExactOptions options;
  options.micro_batches = spec.options.micro_batches;
  options.headroom_bits = spec.options.headroom_bits;
  options.lane_bits =
      spec.options.lane_bits != 0 ? spec.options.lane_bits : DefaultLaneBits(elements);
  return options;
}

}  // namespace

Result<std::unique_ptr<StepEngine>> StepEngine::Create(const SessionSpec& spec, Reduce reduce,
                                                       Backend& backend, const StepDevice& on) {
  MUSTER_CHECK(spec.optimizer != nullptr, "a session needs an optimizer");
  MUSTER_TRY(spec.options.Validate());
  MUSTER_TRY(ValidateParameters(spec.parameters));
  if (spec.dataset_size < 1) return Err(Code::kInvalidArgument, "the data set is empty");
  const std::vector<size_t> sizes = Sizes(spec.parameters);
  std::vector<TensorSpec> tensors = StateTensors(spec, BlockLayout(sizes).blocks());
  std::unique_ptr<StepEngine> engine(new StepEngine(spec, reduce, std::move(tensors), sizes));
  MUSTER_TRY(engine->exact_.Validate());
  const StepFrame frame{engine->spec_, reduce, engine->layout_, engine->exact_, engine->state_};
  MUSTER_ASSIGN(engine->math_, on.device != nullptr ? DeviceMath::Create(frame, backend, on)
                                                    : HostMath::Create(frame, backend));
  return engine;
}

StepEngine::StepEngine(const SessionSpec& spec, Reduce reduce, std::vector<TensorSpec> tensors,
                       std::vector<size_t> sizes)
    : spec_(spec),
      reduce_(reduce),
      layout_(sizes),
      exact_(MakeExactOptions(spec, layout_.elements())),
      order_(spec.options.seed, spec.dataset_size),
      state_(std::move(tensors)),
      strips_(state_, layout_, sizes.size()),
      samples_(static_cast<size_t>(spec.options.batch_size)),
      vote_(spec.options.micro_batches, reduce == Reduce::kExact ? layout_.blocks() : 0),
      outcome_(vote_) {
  for (size_t i = 0; i < spec_.parameters.size(); ++i) {
    parameters_.push_back(state_.tensor<float>(i));
    parameter_views_.push_back(parameters_.back());
  }
  std::ranges::fill(state_.tensor<int16_t>(state_.tensors().size() - 1), kUnknownExponent);
  state_.set_all_page_versions(UINT64_MAX);  // no page holds anything yet
}

int64_t StepEngine::samples_per_step() const {
  return int64_t{spec_.options.micro_batches} * spec_.options.batch_size;
}

void StepEngine::ForgetStep() {
  reduced_at_.reset();
  outcome_of_.reset();
}

MicroBatch StepEngine::MakeMicroBatch(int index) {
  const uint64_t step = state_.step();
  const auto batch_size = static_cast<uint64_t>(spec_.options.batch_size);
  const uint64_t first =
      step * static_cast<uint64_t>(samples_per_step()) + static_cast<uint64_t>(index) * batch_size;
  for (uint64_t i = 0; i < batch_size; ++i) samples_[i] = order_.SampleAt(first + i);
  return {.step = step,
          .index = index,
          .samples = samples_,
          .random = Random(spec_.options.seed, step, static_cast<uint64_t>(index))};
}

Status StepEngine::Compute(MicroBatchRange share, const ComputeMicroBatch& compute,
                           Communicator* communicator) {
  reduced_at_.reset();  // the sums are overwritten now
  share_ = share;
  MUSTER_TRY(math_->Begin(communicator));
  for (int index = share.begin; index < share.end; ++index) {
    MUSTER_TRY(math_->Add(MakeMicroBatch(index), index + 1 == share.end, compute));
  }
  return {};
}

Status StepEngine::ReduceAndVote(Communicator& communicator, uint64_t prepared, bool stop) {
  MUSTER_TRY(math_->Sum(communicator));
  reduced_at_ = position();
  (void)Failpoint("step.reduced");
  const StepMath::Shown& shown = math_->shown();
  vote_ = Vote(spec_.options.micro_batches, reduce_ == Reduce::kExact ? layout_.blocks() : 0);
  vote_.SetStep(state_.step());
  vote_.SetPrepared(prepared);
  if (stop) vote_.SetStop();
  if (shown.flags.miss) vote_.SetMiss();
  if (shown.flags.non_finite) vote_.SetNonFinite();
  for (int index = share_.begin; index < share_.end; ++index) {
    const double loss = shown.losses[static_cast<size_t>(index)];
    vote_.SetLoss(index, loss);
    if (!std::isfinite(loss)) vote_.SetNonFinite();
  }
  if (reduce_ == Reduce::kExact) vote_.SetExponents(shown.observed);
  MUSTER_TRY(communicator.AllReduce(vote_.lanes(), ReduceOp::kMax));
  outcome_ = vote_;
  outcome_of_ = position();
  return {};
}

Result<StepEngine::Applied> StepEngine::ApplyOutcome() {
  if (!outcome_.consistent() || outcome_.step() != state_.step()) {
    return Err(Code::kInternal, "the members voted on different steps; this one is at step {}",
               state_.step());
  }
  reduced_at_.reset();
  StateHeader& header = state_.header();
  if (outcome_.non_finite() && spec_.options.non_finite == NonFinite::kFail) {
    return WithHint(
        Err(Code::kDataLoss,
            "the loss or a gradient of step {} has a NaN or an infinity (mean loss {})",
            header.step, outcome_.MeanLoss()),
        "lower the learning rate or clip gradients; NonFinite::kSkip skips such updates");
  }
  scale_ = 1;
  if (outcome_.miss() && !outcome_.non_finite()) {
    MUSTER_TRY(math_->Agree(outcome_));
    MUSTER_TRY(math_->Raise(layout_.all()));
    ++header.misses;
    applied_ = Applied::kRaised;
  } else {
    MUSTER_TRY(Commit());
    applied_ = summary_.skipped ? Applied::kSkipped : Applied::kCommitted;
  }
  state_.set_all_page_versions(position());
  return applied_;
}

Status StepEngine::Commit() {
  StateHeader& header = state_.header();
  summary_ = {header.step, outcome_.MeanLoss(), 0, outcome_.non_finite()};
  if (summary_.skipped) {
    ++header.skipped;
  } else {
    if (reduce_ == Reduce::kExact) MUSTER_TRY(math_->Agree(outcome_));
    MUSTER_TRY(math_->TakeMean(layout_.all()));
    MUSTER_ASSIGN(const double squares, math_->SumOfSquares());
    summary_.gradient_norm = std::sqrt(squares);
    const double clip = spec_.options.clip_norm;
    if (clip > 0 && summary_.gradient_norm > clip) scale_ = clip / summary_.gradient_norm;
    MUSTER_TRY(Update(layout_.all(), header.step, scale_));
  }
  header.loss = summary_.loss;
  header.samples_consumed += static_cast<uint64_t>(samples_per_step());
  ++header.step;
  return {};
}

Status StepEngine::Update(BlockRange blocks, uint64_t step, double scale) {
  return math_->Update(blocks, {step, spec_.options.learning_rate(step)}, scale);
}

// --- What joiners need ------------------------------------------------------------------------------------------------------

Status StepEngine::CopyStrip(size_t strip, std::span<std::byte> packed) {
  MUSTER_TRY(math_->Fetch(strips_.Parts(strip)));
  strips_.Copy(strip, packed);
  return {};
}

Status StepEngine::PlaceStrip(size_t strip, std::span<const std::byte> packed) {
  strips_.Place(strip, packed);
  return math_->Push(strips_.Parts(strip));
}

Result<StepMath::HandedOut> StepEngine::HandOutSums(std::span<std::byte> spare,
                                                    std::span<const size_t> strips) {
  std::vector<std::span<std::byte>> parts;
  for (const size_t strip : strips) parts.push_back(SumsOf(strip, sums()));
  return math_->HandOutSums(spare, parts);
}

std::span<std::byte> StepEngine::SumsOf(size_t strip, std::span<std::byte> sums) const {
  const BlockRange blocks = strips_.blocks(strip);
  const size_t lane = sums.size() / layout_.elements();
  const size_t begin = layout_.begin(blocks.begin);
  return sums.subspan(begin * lane, (layout_.begin(blocks.end) - begin) * lane);
}

Status StepEngine::ApplyTo(std::span<const size_t> strips, const Record& record) {
  if (record.applied == Applied::kSkipped) return {};
  if (reduce_ == Reduce::kExact) MUSTER_TRY(math_->Agree(record.outcome));
  for (const size_t strip : strips) {
    const BlockRange blocks = strips_.blocks(strip);
    if (record.applied == Applied::kRaised) {
      MUSTER_TRY(math_->Raise(blocks));
      continue;
    }
    const std::span<std::byte> sums[] = {SumsOf(strip, this->sums())};
    MUSTER_TRY(math_->PushSums(sums));
    MUSTER_TRY(math_->TakeMean(blocks));
    MUSTER_TRY(Update(blocks, record.step, record.scale));
  }
  return math_->Settle();
}

Status StepEngine::MarkPages(std::span<const uint64_t> positions) {
  MUSTER_TRY(FetchState());
  strips_.MarkPages(positions);
  return {};
}

Status StepEngine::FetchState() {
  const std::span<std::byte> image[] = {state_.image()};
  return math_->Fetch(image);
}

Status StepEngine::PushState() {
  const std::span<std::byte> image[] = {state_.image()};
  return math_->Push(image);
}

// ----------------------------------------------------------------------------------------------------------------------------

std::string StepEngine::program() const {
  const TrainOptions& o = spec_.options;
  return fmt::format(
      "model {:016x}\noptimizer {}\nsamples {}\nsteps {}\nseed {}\nmicro-batches {}\n"
      "batch-size {}\nclip-norm {}\nnon-finite {}\nreduction {}\ndevice {}\n",
      state_.schema_hash(), spec_.optimizer->Describe(), spec_.dataset_size, o.steps, o.seed,
      o.micro_batches, o.batch_size, o.clip_norm,
      o.non_finite == NonFinite::kFail ? "fails" : "is skipped", DescribeReduction(),
      math_->Describe());
}

uint64_t StepEngine::program_hash() const {
  const std::string text = program();
  return HashBytes(std::as_bytes(std::span(text))).low;
}

std::string StepEngine::DescribeReduction() const {
  if (reduce_ == Reduce::kFloat) return "float";
  return fmt::format("exact lane_bits={} headroom_bits={}", exact_.lane_bits,
                     spec_.options.headroom_bits);
}

std::string StepEngine::weights_hash() const {
  Hasher hasher;
  for (const auto& parameter : parameter_views_) hasher.Update(std::as_bytes(parameter));
  return hasher.Digest().ToHex();
}

}  // namespace muster
