#include "tests/elastic/in_process_job.h"

#include <cmath>
#include <csignal>
#include <deque>

#include "collectives/inproc/inproc.h"

namespace muster {

namespace {

struct Killed {};  // thrown through the session: the thread's way of dying at once

const Optimizer& TestOptimizer() {
  static const auto optimizer = Sgd({.momentum = 0.9});
  return *optimizer;
}

SessionSpec MakeSpec(const TrainOptions& options) {
  SessionSpec spec;
  spec.parameters = {{"a", {37, 29}}, {"b", {5}}, {"c", {2000}}};
  spec.initialize = [](Tensors parameters) {
    Random random(7);
    for (const auto& parameter : parameters) {
      for (float& x : parameter) x = random.Normal();
    }
  };
  spec.optimizer = &TestOptimizer();
  spec.options = options;
  spec.dataset_size = 1013;
  return spec;
}

// A gradient that depends on parameters, samples and the micro-batch's random numbers, in magnitudes that change.
double Compute(const MicroBatch& batch, ConstTensors parameters, Tensors gradients) {
  MicroBatch mine = batch;
  double loss = 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const float scale =
        std::ldexp(1.0F, static_cast<int>(batch.step % 23) - 11 - static_cast<int>(i) * 9);
    for (size_t j = 0; j < parameters[i].size(); ++j) {
      const auto sample = static_cast<float>(batch.samples[j % batch.samples.size()]);
      const float g =
          0.01F * parameters[i][j] + scale * 1e-3F * (sample / 1013 - mine.random.Uniform());
      gradients[i][j] += g;
      loss += static_cast<double>(g) * g;
    }
  }
  return loss;
}

}  // namespace

// The control line of one worker: orders queue up for a thread of its own.
class InProcessJob::Line : public ControlLine {
 public:
  Line(InProcessJob& job, std::string id, uint64_t incarnation, ControlLineCallbacks callbacks)
      : job_(job),
        id_(std::move(id)),
        incarnation_(incarnation),
        callbacks_(std::move(callbacks)),
        thread_([this](std::stop_token stop) { Run(stop); }) {
    SayHello();
  }
  ~Line() override {
    // The thread first: it may just be registering this line again.
    thread_.request_stop();
    changed_.notify_all();
    thread_.join();
    std::lock_guard lock(job_.mutex_);
    const auto found = job_.lines_.find(id_);
    if (found != job_.lines_.end() && found->second == this) job_.lines_.erase(found);
  }

  void Send(const Report& report) override {
    Enqueue([this, report] { job_.Post(WorkerReported{report}); });
  }
  void SayHello() override {
    Enqueue([this] {
      const Hello hello = callbacks_.hello();
      std::lock_guard lock(job_.mutex_);
      job_.lines_[id_] = this;
      job_.Post(WorkerHello{hello});
    });
  }
  Status Flush(TimePoint) override { return {}; }

  void Deliver(const SendOrder& action) {
    if (action.incarnation == incarnation_)
      Enqueue([this, order = action.order] { callbacks_.order(order); });
  }

 private:
  void Enqueue(std::function<void()> work) {
    {
      std::lock_guard lock(mutex_);
      work_.push_back(std::move(work));
    }
    changed_.notify_all();
  }
  void Run(std::stop_token stop) {
    while (!stop.stop_requested()) {
      std::function<void()> work;
      {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, stop, std::chrono::milliseconds(20),
                          [this] { return !work_.empty(); });
        if (!work_.empty()) {
          work = std::move(work_.front());
          work_.pop_front();
        }
      }
      if (stop.stop_requested()) return;
      if (work) {
        work();
      } else {
        job_.Post(WorkerReported{callbacks_.progress()});
      }
    }
  }

  InProcessJob& job_;
  const std::string id_;
  const uint64_t incarnation_;
  const ControlLineCallbacks callbacks_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::function<void()>> work_;
  std::jthread thread_;
};

InProcessJob::InProcessJob(JobSetup setup) : setup_(std::move(setup)) {}

InProcessJob::~InProcessJob() {
  Stop();
  std::vector<std::unique_ptr<Worker>> all;
  {
    std::lock_guard lock(mutex_);
    Carry(coordinator_->Handle(StopRequested{true, "the test ends"}, MonotonicNow()));
    for (auto& [id, worker] : workers_) {
      worker->killed = true;
      all.push_back(std::move(worker));
    }
    for (auto& worker : graveyard_) all.push_back(std::move(worker));
    workers_.clear();
    graveyard_.clear();
  }
  all.clear();  // joins
  time_ = {};
}

void InProcessJob::Start() {
  std::lock_guard lock(mutex_);
  coordinator_ = std::make_unique<Coordinator>(setup_.coordinator, std::nullopt, MonotonicNow());
  Carry(coordinator_->Start(MonotonicNow()));
  time_ = std::jthread([this](std::stop_token stop) { TimeLoop(stop); });
}

void InProcessJob::TimeLoop(std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  while (!stop.stop_requested()) {
    std::unique_lock lock(mutex);
    never.wait_for(lock, stop, std::chrono::milliseconds(5), [] { return false; });
    Post(Tick{});
  }
}

void InProcessJob::Post(const CoordinatorEvent& event) {
  std::lock_guard lock(mutex_);
  Carry(coordinator_->Handle(event, MonotonicNow()));
  changed_.notify_all();
}

void InProcessJob::Carry(std::vector<CoordinatorAction> actions) {
  for (CoordinatorAction& action : actions) {
    if (auto* persist = std::get_if<Persist>(&action)) durable_ = persist->state;
    if (auto* order = std::get_if<SendOrder>(&action)) {
      const auto line = lines_.find(order->worker);
      if (line != lines_.end()) line->second->Deliver(*order);
    }
    if (auto* event = std::get_if<EmitEvent>(&action)) events_.push_back(*event);
    if (auto* finish = std::get_if<FinishJob>(&action)) end_ = *finish;
    if (auto* slots = std::get_if<SetSlots>(&action)) {
      slots_ = slots->slots;
      for (const std::string& slot : slots_) {
        if (!workers_.contains(slot) || workers_.at(slot)->ended) Spawn(slot);
      }
    }
  }
}

void InProcessJob::Spawn(const std::string& id) {
  auto worker = std::make_unique<Worker>();
  worker->incarnation = ++incarnations_;
  Worker& self = *worker;
  if (workers_.contains(id)) graveyard_.push_back(std::move(workers_[id]));
  workers_[id] = std::move(worker);
  self.thread = std::jthread([this, id, &self] { RunWorker(id, self); });
}

void InProcessJob::RunWorker(const std::string& id, Worker& self) {
  WorkerExited exited{id, self.incarnation, 0, 0, "", ""};
  try {
    Surroundings surroundings;
    surroundings.environment.job_dir = setup_.job_dir;
    surroundings.environment.worker = id;
    surroundings.environment.incarnation = self.incarnation;
    surroundings.environment.reduce = setup_.reduce;
    surroundings.environment.checkpoint = setup_.checkpoint;
    surroundings.environment.checkpoint_every = setup_.checkpoint_every;
    surroundings.environment.resume = setup_.resume;
    surroundings.environment.join = setup_.join;
    surroundings.backend = setup_.backend(id, self.incarnation);
    surroundings.open_line = [this, id,
                              incarnation = self.incarnation](ControlLineCallbacks callbacks) {
      return std::make_unique<Line>(*this, id, incarnation, std::move(callbacks));
    };
    auto session = ElasticSession::Create(MakeSpec(setup_.options), std::move(surroundings));
    const ComputeMicroBatch compute = [&](const MicroBatch& batch, ConstTensors parameters,
                                          Tensors gradients) {
      if (self.killed) throw Killed{};
      if (setup_.compute_time.count() > 0) std::this_thread::sleep_for(setup_.compute_time);
      return Compute(batch, parameters, gradients);
    };
    bool ok = session.has_value();
    while (ok && !(*session)->done()) ok = (*session)->Step(compute).has_value();
    if (ok) (void)(*session)->Finish({{"answer", 42}});
  } catch (const Killed&) {
    exited.exit_code = -1;
    exited.signal = SIGKILL;
  }
  std::lock_guard lock(mutex_);
  self.ended = true;
  if (workers_.contains(id) && workers_.at(id).get() == &self) {
    Post(exited);
    const bool wanted = std::find(slots_.begin(), slots_.end(), id) != slots_.end();
    if (exited.signal != 0 && wanted && !end_) Spawn(id);
  }
}

void InProcessJob::Kill(const std::string& worker) {
  std::lock_guard lock(mutex_);
  const auto found = workers_.find(worker);
  if (found != workers_.end()) found->second->killed = true;
}

void InProcessJob::Resize(int min_workers, int max_workers) {
  Post(ResizeRequested{min_workers, max_workers});
}

void InProcessJob::Stop() { Post(StopRequested{false, "asked to stop"}); }

void InProcessJob::RestartCoordinator() {
  std::lock_guard lock(mutex_);
  coordinator_ = std::make_unique<Coordinator>(setup_.coordinator, durable_, MonotonicNow());
  Carry(coordinator_->Start(MonotonicNow()));
  for (const auto& [id, line] : lines_) line->SayHello();
}

uint64_t InProcessJob::step() {
  std::lock_guard lock(mutex_);
  return coordinator_->Status().step;
}

std::vector<std::string> InProcessJob::Members() {
  std::lock_guard lock(mutex_);
  std::vector<std::string> members;
  for (const WorkerStatus& worker : coordinator_->Status().workers) {
    if (worker.rank >= 0) members.push_back(worker.id);
  }
  return members;
}

bool InProcessJob::WaitStep(uint64_t step, Duration timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout,
                           [&] { return end_.has_value() || coordinator_->Status().step >= step; });
}

std::optional<FinishJob> InProcessJob::WaitEnd(Duration timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [&] { return end_.has_value(); });
  return end_;
}

std::vector<EmitEvent> InProcessJob::events() {
  std::lock_guard lock(mutex_);
  return events_;
}

RunResult TrainAlone(const JobSetup& setup) {
  Surroundings surroundings;
  surroundings.environment.reduce = setup.reduce;
  surroundings.backend = CreateInprocBackend(CreateInprocFabric(), "alone");
  auto session = ElasticSession::Create(MakeSpec(setup.options), std::move(surroundings));
  while (!(*session)->done()) (void)(*session)->Step(Compute);
  (void)(*session)->Finish({{"answer", 42}});
  return (*session)->result();
}

}  // namespace muster
