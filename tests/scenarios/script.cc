#include "tests/scenarios/script.h"

#include <fmt/format.h>

#include <csignal>
#include <sstream>

#include "runtime/base/check.h"

namespace muster::scenario {

namespace {

constexpr auto kTick = std::chrono::milliseconds(50);

// "w-1..w-3" is w-1 w-2 w-3.
void AddRange(const std::string& word, std::vector<std::string>& to) {
  const size_t dots = word.find("..");
  if (dots == std::string::npos) return to.push_back(word);
  const int first = std::stoi(word.substr(2, dots - 2));
  const int last = std::stoi(word.substr(dots + 4));
  for (int number = first; number <= last; ++number) to.push_back(fmt::format("w-{}", number));
}

std::pair<int, int> WorkerRange(const std::string& text) {
  const size_t colon = text.find(':');
  const int low = std::stoi(text);
  return {low, colon == std::string::npos ? low : std::stoi(text.substr(colon + 1))};
}

// "3s", "1.5s", "200ms".
Duration Time(const std::string& text) {
  const double number = std::stod(text);
  const bool milliseconds = text.ends_with("ms");
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(milliseconds ? number / 1e3 : number));
}

template <typename T>
T Number(const std::map<std::string, std::string>& options, const std::string& name, T otherwise) {
  const auto found = options.find(name);
  return found == options.end() ? otherwise : static_cast<T>(std::stoll(found->second));
}

std::string TextOf(const std::map<std::string, std::string>& options, const std::string& name) {
  const auto found = options.find(name);
  return found == options.end() ? "" : found->second;
}

}  // namespace

std::string Script::Play(const std::string& text) {
  std::istringstream in(text);
  std::string out;
  std::string result;
  std::string line;
  bool expected = false;  // in what is to be replaced
  while (std::getline(in, line)) {
    if (expected) {
      expected = !line.empty();
      if (!expected) out += "\n";
    } else if (line == "----") {
      out += "----\n" + (result.empty() ? "ok\n" : result);
      result.clear();
      expected = true;
    } else {
      out += line + "\n";
      if (!line.empty() && line[0] != '#') result += Run(line);
    }
  }
  return out;
}

std::string Script::Run(const std::string& line) {
  std::istringstream in(line);
  std::string name;
  std::string word;
  Words words;
  Options options;
  in >> name;
  while (in >> word) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos) {
      AddRange(word, words);
    } else {
      options[word.substr(0, equals)] = word.substr(equals + 1);
    }
  }
  if (name == "quiet") {
    (void)Run(line.substr(line.find("quiet") + 6));
    return "";
  }
  std::string output = Dispatch(name, words, options);
  if (world_) output = world_->TakeTrace() + output;
  if (world_) {
    for (size_t i = violations_.size(); i < world_->oracle().violations().size(); ++i) {
      violations_.push_back(world_->oracle().violations()[i]);
      output += "VIOLATION: " + violations_.back() + "\n";
    }
  }
  return output;
}

std::string Script::Dispatch(const std::string& name, const Words& words, const Options& options) {
  if (name == "job") return Job(options);
  if (!world_) return "the first command must be job\n";
  if (name == "deliver") {
    world_->Deliver();
  } else if (name == "advance") {
    Advance(Time(words.at(0)));
  } else if (name == "step") {
    for (int i = words.empty() ? 1 : std::stoi(words[0]); i > 0; --i) Step();
  } else if (name == "finish") {
    return Finish();
  } else if (name == "resize") {
    const auto [low, high] = WorkerRange(words.at(0));
    if (const auto objection = world_->ResizeObjection(low, high))
      return "refused: " + *objection + "\n";
    world_->Tell(ResizeRequested{low, high});
  } else if (name == "stop") {
    world_->Tell(StopRequested{!words.empty() && words[0] == "now", "asked to stop"});
  } else if (name == "coordinator-kill") {
    world_->KillCoordinator();
  } else if (name == "coordinator-start") {
    world_->StartCoordinator();
  } else if (name == "coordinator-restart") {
    world_->KillCoordinator();
    world_->StartCoordinator();
  } else if (name == "coordinator-kill-after") {
    world_->KillCoordinatorAfter(std::stoi(words.at(0)));
  } else if (name == "offer") {
    SlotsOffered offer{words, {}};
    for (const auto& [slot, why] : options) offer.leaving[slot] = why;
    world_->Tell(offer);
  } else if (name == "platform-fails") {
    world_->Tell(PlatformFailed{4, "no room anywhere"});
  } else if (name == "split") {  // between these and all others; without a word: whole again
    world_->Split({words.begin(), words.end()});
  } else if (name == "tell") {
    world_->Tell(Event(words, options));
  } else if (name == "status") {
    return Text(world_->Status());
  } else if (name == "workers") {
    return Workers();
  } else if (name == "release-all") {
    world_->ReleaseAll();
  } else {
    return RunOnWorkers(name, words, options);
  }
  return "";
}

std::string Script::RunOnWorkers(const std::string& name, const Words& words,
                                 const Options& options) {
  for (const std::string& who : words) {
    Worker* worker = world_->worker(who);
    if (name == "spawn") {
      world_->Spawn(who);
    } else if (name == "hold") {
      world_->Hold(who, options.at("what"));
    } else if (name == "release") {
      world_->Release(who, options.at("what"));
    } else if (name == "kill-agent") {
      world_->KillAgent(who);
    } else if (worker == nullptr) {
      return fmt::format("{}: no such process, or no such command\n", who);
    } else if (name == "kill") {
      world_->Kill(who, -1, Number(options, "signal", SIGKILL));
    } else if (name == "exit") {
      world_->Kill(who, Number(options, "code", 0), 0);
    } else if (name == "freeze" || name == "thaw") {
      world_->Freeze(who, name == "freeze");
    } else if (name == "drop-stream") {
      world_->DropStream(who);
    } else if (name == "compute") {
      if (worker->computing()) world_->Make({Move::Kind::kCompute, who});
    } else if (name == "fail") {
      worker->Fail(TextOf(options, "message"), options.contains("usage"),
                   options.contains("checkpoint"));
    } else if (name == "corrupt") {
      world_->oracle().StopCheckingWeights();
      worker->Corrupt();
    } else {
      return fmt::format("no command '{}'\n", name);
    }
  }
  return "";
}

std::string Script::Job(const Options& options) {
  WorldOptions world;
  CoordinatorOptions& coordinator = world.coordinator;
  coordinator.job = "job";
  std::tie(coordinator.min_workers, coordinator.max_workers) = WorkerRange(options.at("workers"));
  coordinator.slots_from_platform = options.contains("platform");
  coordinator.crash_limit = Number(options, "crash-limit", coordinator.crash_limit);
  coordinator.kill_limit = Number(options, "kill-limit", coordinator.kill_limit);
  world.program.steps = Number(options, "steps", world.program.steps);
  world.program.micro_batches = Number(options, "micro-batches", world.program.micro_batches);
  world.program.miss_every = Number(options, "miss-every", world.program.miss_every);
  world.program.checkpoint_every =
      Number(options, "checkpoint-every", world.program.checkpoint_every);
  world_ = std::make_unique<World>(world);
  world_->StartCoordinator();
  return "";
}

void Script::Advance(Duration time) {
  const TimePoint end = world_->now() + time;
  while (world_->now() < end) {
    world_->Pass(std::min<Duration>(kTick, end - world_->now()));
    world_->Settle();
  }
}

void Script::Step() {
  for (const Move& move : world_->Moves()) {
    if (move.kind == Move::Kind::kCompute) world_->Make(move);
  }
  world_->Deliver();
}

std::string Script::Finish() {
  std::string last;
  for (int i = 0; i < 1000 && !world_->end(); ++i) {
    Step();
    Advance(kTick);
    last = world_->TakeTrace();
  }
  Advance(std::chrono::seconds(10));
  return last + world_->TakeTrace() + (world_->end() ? "" : "the job does not end\n") + Workers();
}

std::string Script::Workers() {
  std::string text;
  for (const std::string& who : world_->slots()) {
    const Worker* worker = world_->worker(who);
    text += worker != nullptr ? worker->Describe() + "\n" : who + ": no process\n";
  }
  return text.empty() ? "nobody is left\n" : text;
}

// Events that a script makes up, late or forged: `tell exited w-1 process=1 code=1`.
CoordinatorEvent Script::Event(const Words& words, const Options& options) const {
  const std::string& kind = words.at(0);
  if (kind == "record-away") return RecordAway{};
  if (kind == "record-back") return RecordBack{};
  const std::string& who = words.at(1);
  const auto process = Number<uint64_t>(options, "process", 1);
  const auto generation = Number<uint64_t>(options, "generation", 0);
  if (kind == "hello") {
    const Program program;  // the worker only refers to it
    Worker stranger(who, process, program, *world_);
    Hello hello = stranger.MakeHello();
    hello.micro_batches = Number(options, "micro-batches", hello.micro_batches);
    hello.generation = generation;
    hello.revoked = Number<uint64_t>(options, "revoked", 0);
    hello.step = Number<uint64_t>(options, "step", 0);
    hello.has_state = hello.step > 0;
    return WorkerHello{hello};
  }
  if (kind == "started") return WorkerStarted{who, process, 0};
  if (kind == "stream-lost") return WorkerStreamLost{who, process};
  if (kind == "exited") {
    return WorkerExited{who,
                        process,
                        Number(options, "code", 0),
                        Number(options, "signal", 0),
                        "",
                        TextOf(options, "error")};
  }
  if (kind == "slot-exited")
    return SlotExited{who, Number(options, "code", 0), Number(options, "signal", 0)};
  Report report;
  report.worker = who;
  report.incarnation = process;
  report.generation = generation;
  report.kind = kind == "revoked" ? Report::Kind::kRevoked : Report::Kind::kProgress;
  report.lost = TextOf(options, "lost");
  report.message = "made up";
  return WorkerReported{report};
}

}  // namespace muster::scenario
