#include "runtime/train/step_engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "runtime/base/check.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/hash.h"

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

template <typename T>
std::span<T> As(std::span<std::byte> bytes) {
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

}  // namespace

Result<std::unique_ptr<StepEngine>> StepEngine::Create(const SessionSpec& spec, Reduce reduce,
                                                       Backend& backend) {
  MUSTER_CHECK(spec.optimizer != nullptr, "a session needs an optimizer");
  MUSTER_TRY(spec.options.Validate());
  MUSTER_TRY(ValidateParameters(spec.parameters));
  if (spec.dataset_size < 1) return Err(Code::kInvalidArgument, "the data set is empty");
  const std::vector<size_t> sizes = Sizes(spec.parameters);
  std::vector<TensorSpec> tensors = StateTensors(spec, BlockLayout(sizes).blocks());
  std::unique_ptr<StepEngine> engine(new StepEngine(spec, reduce, std::move(tensors), sizes));
  MUSTER_TRY(engine->exact_.Validate());
  MUSTER_TRY(engine->AllocateSums(backend));
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
      exponents_(layout_.blocks()),
      gradient_(layout_.elements()),
      observed_(layout_.blocks()),
      samples_(static_cast<size_t>(spec.options.batch_size)),
      vote_(spec.options.micro_batches, reduce == Reduce::kExact ? layout_.blocks() : 0),
      outcome_(vote_) {
  const size_t count = spec_.parameters.size();
  size_t offset = 0;
  for (size_t i = 0; i < count; ++i) {
    parameters_.push_back(state_.tensor<float>(i));
    parameter_views_.push_back(parameters_.back());
    gradients_.push_back(std::span(gradient_).subspan(offset, sizes[i]));
    offset += sizes[i];
    std::vector<std::span<float>> slots;
    for (size_t slot = 0; slot < spec_.optimizer->Slots().size(); ++slot) {
      slots.push_back(state_.tensor<float>(count * (slot + 1) + i));
    }
    slots_.push_back(std::move(slots));
  }
  exponents_tensor_ = state_.tensors().size() - 1;
  std::ranges::fill(state_.tensor<int16_t>(exponents_tensor_), kUnknownExponent);
  state_.set_all_page_versions(UINT64_MAX);  // no page holds anything yet
}

Status StepEngine::AllocateSums(Backend& backend) {
  const size_t lane =
      reduce_ == Reduce::kFloat ? sizeof(float) : static_cast<size_t>(exact_.lane_bits) / 8;
  const size_t bytes = layout_.elements() * lane;
  MUSTER_ASSIGN(sums_, backend.Allocate(bytes));
  sums_ = sums_.first(bytes);
  return {};
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
  return {step, index, samples_, nullptr,
          Random(spec_.options.seed, step, static_cast<uint64_t>(index))};
}

Status StepEngine::Compute(MicroBatchRange share, const ComputeMicroBatch& compute) {
  reduced_at_.reset();  // the sums are overwritten now
  std::ranges::fill(sums_, std::byte{0});
  std::ranges::fill(observed_, kUnknownExponent);
  CopyExponents(layout_.all());
  flags_ = {};
  vote_ = Vote(spec_.options.micro_batches, reduce_ == Reduce::kExact ? layout_.blocks() : 0);
  for (int index = share.begin; index < share.end; ++index) {
    std::ranges::fill(gradient_, 0.0F);
    MUSTER_ASSIGN(const double loss, compute(MakeMicroBatch(index), parameter_views_, gradients_));
    vote_.SetLoss(index, loss);
    flags_.non_finite = flags_.non_finite || !std::isfinite(loss);
    AddGradient();
  }
  return {};
}

void StepEngine::AddGradient() {
  ExactFlags flags;
  if (reduce_ == Reduce::kFloat) {
    const std::span<float> sums = As<float>(sums_);
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += gradient_[i];
  } else if (exact_.lane_bits == 32) {
    flags =
        Accumulate<int32_t>(layout_, exact_, exponents_, gradient_, As<int32_t>(sums_), observed_);
  } else {
    flags =
        Accumulate<int64_t>(layout_, exact_, exponents_, gradient_, As<int64_t>(sums_), observed_);
  }
  flags_.miss = flags_.miss || flags.miss;
  flags_.non_finite = flags_.non_finite || flags.non_finite;
}

Status StepEngine::ReduceAndVote(Communicator& communicator, uint64_t prepared, bool stop) {
  if (reduce_ == Reduce::kFloat) {
    MUSTER_TRY(communicator.AllReduce(As<float>(sums_), ReduceOp::kSum));
    const std::span<float> sums = As<float>(sums_);
    flags_.non_finite =
        flags_.non_finite || !std::ranges::all_of(sums, [](float x) { return std::isfinite(x); });
  } else if (exact_.lane_bits == 32) {
    MUSTER_TRY(communicator.AllReduce(As<int32_t>(sums_), ReduceOp::kSum));
  } else {
    MUSTER_TRY(communicator.AllReduce(As<int64_t>(sums_), ReduceOp::kSum));
  }
  reduced_at_ = position();
  (void)Failpoint("step.reduced");
  vote_.SetStep(state_.step());
  vote_.SetPrepared(prepared);
  if (stop) vote_.SetStop();
  if (flags_.miss) vote_.SetMiss();
  if (flags_.non_finite) vote_.SetNonFinite();
  if (reduce_ == Reduce::kExact) vote_.SetExponents(observed_);
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
    outcome_.GetExponents(observed_);
    RaiseBlocks(layout_.all());
    ++header.misses;
    applied_ = Applied::kRaised;
  } else {
    Commit();
    applied_ = summary_.skipped ? Applied::kSkipped : Applied::kCommitted;
  }
  state_.set_all_page_versions(position());
  return applied_;
}

void StepEngine::Commit() {
  StateHeader& header = state_.header();
  summary_ = {header.step, outcome_.MeanLoss(), 0, outcome_.non_finite()};
  if (summary_.skipped) {
    ++header.skipped;
  } else {
    if (reduce_ == Reduce::kExact) outcome_.GetExponents(observed_);
    TakeMean(layout_.all());
    summary_.gradient_norm = std::sqrt(SumOfSquares(layout_, gradient_));
    const double clip = spec_.options.clip_norm;
    if (clip > 0 && summary_.gradient_norm > clip) scale_ = clip / summary_.gradient_norm;
    UpdateBlocks(layout_.all(), header.step, scale_);
  }
  header.loss = summary_.loss;
  header.samples_consumed += static_cast<uint64_t>(samples_per_step());
  ++header.step;
}

void StepEngine::TakeMean(BlockRange blocks) {
  const double mean = 1.0 / spec_.options.micro_batches;
  if (reduce_ == Reduce::kFloat) {
    const std::span<float> sums = As<float>(sums_);
    for (size_t i = layout_.begin(blocks.begin); i < layout_.begin(blocks.end); ++i) {
      gradient_[i] = static_cast<float>(sums[i] * mean);
    }
    return;
  }
  CopyExponents(blocks);
  if (exact_.lane_bits == 32) {
    ToFloat<int32_t>(layout_, exact_, exponents_, As<int32_t>(sums_), mean, gradient_, blocks);
  } else {
    ToFloat<int64_t>(layout_, exact_, exponents_, As<int64_t>(sums_), mean, gradient_, blocks);
  }
}

void StepEngine::UpdateBlocks(BlockRange blocks, uint64_t step, double scale) {
  const size_t begin = layout_.begin(blocks.begin);
  const size_t end = layout_.begin(blocks.end);
  if (scale != 1.0) {
    for (size_t i = begin; i < end; ++i) gradient_[i] = static_cast<float>(gradient_[i] * scale);
  }
  const UpdateContext context{step, spec_.options.learning_rate(step)};
  std::vector<std::span<float>> slots(spec_.optimizer->Slots().size());
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto first = static_cast<size_t>(gradients_[i].data() - gradient_.data());
    const size_t from = std::max(begin, first);
    const size_t to = std::min(end, first + parameters_[i].size());
    if (from >= to) continue;
    for (size_t slot = 0; slot < slots.size(); ++slot) {
      slots[slot] = slots_[i][slot].subspan(from - first, to - from);
    }
    spec_.optimizer->Update(context, parameters_[i].subspan(from - first, to - from),
                            std::span(gradient_).subspan(from, to - from), slots);
  }
  if (reduce_ == Reduce::kFloat) return;
  exponents_.Commit(observed_, step, blocks);
  StoreExponents(blocks);
}

void StepEngine::RaiseBlocks(BlockRange blocks) {
  CopyExponents(blocks);
  exponents_.Raise(observed_, blocks);
  StoreExponents(blocks);
}

void StepEngine::CopyExponents(BlockRange blocks) {
  const auto from = state_.tensor<int16_t>(exponents_tensor_);
  std::copy(from.begin() + static_cast<ptrdiff_t>(blocks.begin),
            from.begin() + static_cast<ptrdiff_t>(blocks.end),
            exponents_.values().begin() + static_cast<ptrdiff_t>(blocks.begin));
}

void StepEngine::StoreExponents(BlockRange blocks) {
  const auto from = exponents_.values();
  std::copy(
      from.begin() + static_cast<ptrdiff_t>(blocks.begin),
      from.begin() + static_cast<ptrdiff_t>(blocks.end),
      state_.tensor<int16_t>(exponents_tensor_).begin() + static_cast<ptrdiff_t>(blocks.begin));
}

// --- What joiners need ------------------------------------------------------------------------------------------------------

std::span<std::byte> StepEngine::ExchangeSums(std::span<std::byte> spare) {
  MUSTER_CHECK(spare.size() == sums_.size(), "{} bytes for {}", spare.size(), sums_.size());
  return std::exchange(sums_, spare);
}

std::span<std::byte> StepEngine::SumsOf(size_t strip, std::span<std::byte> sums) const {
  const BlockRange blocks = strips_.blocks(strip);
  const size_t lane = sums.size() / layout_.elements();
  const size_t begin = layout_.begin(blocks.begin);
  return sums.subspan(begin * lane, (layout_.begin(blocks.end) - begin) * lane);
}

void StepEngine::ApplyTo(std::span<const size_t> strips, const Record& record) {
  if (record.applied == Applied::kSkipped) return;
  if (reduce_ == Reduce::kExact) record.outcome.GetExponents(observed_);
  for (const size_t strip : strips) {
    const BlockRange blocks = strips_.blocks(strip);
    if (record.applied == Applied::kRaised) {
      RaiseBlocks(blocks);
    } else {
      TakeMean(blocks);
      UpdateBlocks(blocks, record.step, record.scale);
    }
  }
}

uint64_t StepEngine::program_hash() const {
  const TrainOptions& o = spec_.options;
  const std::string facts = fmt::format(
      "{} {} {} {} {} {} {} {} {} {} {} {}", state_.schema_hash(), o.steps, o.seed, o.micro_batches,
      o.batch_size, o.clip_norm, exact_.lane_bits, o.headroom_bits, static_cast<int>(o.non_finite),
      static_cast<int>(reduce_), spec_.dataset_size, spec_.optimizer->Describe());
  return HashBytes(std::as_bytes(std::span(facts))).low;
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
