// Journal: what a coordinator finds of its former self: records that are whole, torn, or not of this world, and what a state may say
// that comes from the journal or, on a cluster, from a ConfigMap that anybody with the right may edit.
//
// Beside the general promises: the last whole record counts, whatever lies around it; a journal that opens is opened again with the same content; what is appended to it is there when it
// is opened again; an error names the file or what of it cannot be read; a coordinator that takes such a state over decides
// something, in the range of its numbers.
#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/job/fields.h"
#include "launcher/job/job.h"
#include "launcher/rendezvous/coordinator.h"
#include "launcher/rendezvous/journal.h"
#include "launcher/rendezvous/state_json.h"
#include "launcher/rendezvous/status_json.h"
#include "runtime/base/files.h"
#include "runtime/base/hash.h"
#include "tests/fuzz/fuzz.h"

namespace muster::fuzz {
namespace {

enum class Part : uint8_t { kRaw, kRecord, kTornRecord, kCount };

std::string Little(uint64_t number, size_t bytes) {
  return {reinterpret_cast<const char*>(&number), bytes};
}

// A record with a checksum that is right.
std::string Record(std::string_view payload) {
  const std::string covered = Little(payload.size(), 4) + std::string(payload);
  const Hash128 hash = HashBytes(std::as_bytes(std::span(covered)));
  return "MREC" + covered.substr(0, 4) + Little(hash.high, 8) + Little(hash.low, 8) +
         std::string(payload);
}

using Content = nlohmann::json;

Content ContentOf(int port, const std::optional<CoordinatorState>& state) {
  return {{"port", port}, {"state", state ? ToJson(*state) : Content(nullptr)}};
}

// What a record with this payload says; nothing if it says nothing that makes sense.
std::optional<Content> ContentOf(std::string_view payload) {
  try {
    const Content object = ParseIntegerJson(payload);
    std::optional<CoordinatorState> state;
    if (!object.at("state").is_null()) state = StateFromJson(object.at("state"));
    return ContentOf(object.at("port").get<int>(), state);
  } catch (const Content::exception&) {
    return std::nullopt;
  }
}

struct File {
  std::string bytes;
  bool plain = true;  // it is known what is in it: nothing but its records begins like a record
  std::optional<Content> last = ContentOf(0, std::nullopt);  // nothing if a record makes no sense
};

File FileOf(Script& script) {
  File file;
  file.plain = (script.Number<uint8_t>() & 1) != 0;
  if (file.plain) file.bytes = "MUSTERJ1";
  std::vector<std::string> torn;  // when they were whole
  while (!script.AtEnd()) {
    const auto part = static_cast<Part>(script.Number<uint8_t>() % uint8_t(Part::kCount));
    const std::string_view bytes = script.Bytes();
    std::string text = part == Part::kRaw ? std::string(bytes) : Record(bytes);
    if (part == Part::kTornRecord) {
      torn.push_back(text);
      text.resize(text.size() * 3 / 4);
    }
    if (part == Part::kRecord && file.last) file.last = ContentOf(bytes);
    file.bytes += text;
    // The beginning of one may be made whole by what follows.
    file.plain = file.plain && bytes.find("MREC") == bytes.npos && !bytes.ends_with('M') &&
                 !bytes.ends_with("MR") && !bytes.ends_with("MRE");
  }
  for (const std::string& whole : torn) {
    file.plain = file.plain && file.bytes.find(whole) == file.bytes.npos;
  }
  return file;
}

Content ContentOf(const Journal& journal) {
  return ContentOf(journal.content().port, journal.content().state);
}

// A coordinator with that memory, some time, and a worker that comes.
void TakeOver(const CoordinatorState& state) {
  TimePoint now{};
  Coordinator core({.job = "job"}, state, now);
  uint64_t last = state.last_generation;
  size_t slots = state.slots.size();
  const auto check = [&](const std::vector<CoordinatorAction>& actions) {
    for (const CoordinatorAction& action : actions) {
      if (const auto* persist = std::get_if<Persist>(&action)) {
        MUSTER_CHECK(persist->state.last_generation >= last, "from {} to {}", last,
                     persist->state.last_generation);
        last = persist->state.last_generation;
        slots = std::max(slots, persist->state.slots.size());
      }
    }
  };
  check(core.Start(now));
  Hello hello{.worker = "w-0", .incarnation = 1, .micro_batches = 16, .batch_size = 8};
  hello.total_steps = 400;
  check(core.Handle(WorkerHello{hello}, now));
  for (int i = 0; i < 5; ++i) check(core.Handle(Tick{}, now += std::chrono::seconds(2)));
  MUSTER_CHECK(slots <= state.slots.size() + static_cast<size_t>(kMaxWorkers), "{} slots", slots);
  MUSTER_CHECK(nlohmann::json::accept(StatusJson({"job"}, core.Status())));
}

CoordinatorState SomeState(uint64_t generation) {
  CoordinatorState state;
  state.last_generation = generation;
  state.active = Generation{generation, {{"w-0", 7, "127.0.0.1:1/boot/name"}, {"w-1", 9, "b"}}};
  if (generation > 4) state.proposed = Generation{generation, {{"w-0", 7, "a"}, {"w-2", 1, "c"}}};
  if (generation > 4) state.active->number = generation - 1;
  state.min_workers = 1;
  state.max_workers = 3;
  state.slots = {"w-0", "w-1", "w-2"};
  state.dismissed = {{"w-3", 2}};
  state.started = true;
  state.generations = 3;
  state.best_step = 40;
  state.total_steps = 400;
  state.micro_batches = 16;
  state.batch_size = 8;
  return state;
}

ScriptWriter& Add(ScriptWriter& script, Part part, std::string_view bytes) {
  return script.Number(uint8_t(part)).Bytes(bytes);
}

std::string PayloadOf(const std::optional<CoordinatorState>& state) {
  return ContentOf(4711, state).dump();
}

}  // namespace

std::vector<Seed> Seeds() {
  // A file as a journal leaves it.
  const std::filesystem::path path = ScratchFolder() / "seed";
  {
    const auto journal = Journal::Open(path).value();
    MUSTER_CHECK(journal->SavePort(4711) && journal->Append(SomeState(4)));
  }
  const std::string file = ReadFile(path).value();
  std::filesystem::remove(path);
  ScriptWriter whole;
  Add(whole.Number(uint8_t{0}), Part::kRaw, file);
  ScriptWriter records;
  Add(records.Number(uint8_t{1}), Part::kRecord, PayloadOf(std::nullopt));
  Add(records, Part::kRecord, PayloadOf(SomeState(5)));
  ScriptWriter torn;
  Add(torn.Number(uint8_t{1}), Part::kRecord, PayloadOf(SomeState(3)));
  Add(torn, Part::kTornRecord, PayloadOf(SomeState(4)));
  ScriptWriter damaged;
  Add(damaged.Number(uint8_t{1}), Part::kRaw, "MRECMREC garbage");
  Add(damaged, Part::kRecord, PayloadOf(SomeState(6)));
  // As nobody but an editor of the file would write it.
  CoordinatorState endless = SomeState(4);
  endless.max_workers = 2'000'000'000;
  ScriptWriter edited;
  Add(edited.Number(uint8_t{1}), Part::kRecord, PayloadOf(endless));
  ScriptWriter fraction;
  Add(fraction.Number(uint8_t{1}), Part::kRecord, R"({"port":0.5,"state":null})");
  // What follows a torn record may be just what it lacks.
  constexpr std::string_view kNonsense = "no JSON";
  const std::string nonsense = Record(kNonsense);
  ScriptWriter mended;
  Add(mended.Number(uint8_t{1}), Part::kTornRecord, kNonsense);
  Add(mended, Part::kRaw, nonsense.substr(nonsense.size() * 3 / 4));
  return {{"file", whole.bytes()},        {"edited", edited.bytes()},
          {"fraction", fraction.bytes()}, {"torn-made-whole", mended.bytes()},
          {"records", records.bytes()},   {"torn", torn.bytes()},
          {"damaged", damaged.bytes()}};
}

}  // namespace muster::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace muster;
  using namespace muster::fuzz;
  Script script({reinterpret_cast<const char*>(data), size});
  static const std::filesystem::path path = ScratchFolder() / "journal";
  const File file = FileOf(script);
  std::ofstream(path, std::ios::binary | std::ios::trunc) << file.bytes;
  auto journal = Journal::Open(path);
  if (file.plain) {
    MUSTER_CHECK(journal.has_value() == file.last.has_value(), "{}",
                 journal ? "it opens, but should not" : journal.error().message);
    MUSTER_CHECK(!journal || ContentOf(**journal) == *file.last, "another record counts");
  }
  if (!journal) {
    CheckError(journal.error());
    MUSTER_CHECK(journal.error().message.find("journal") != std::string::npos);
    return 0;
  }
  const nlohmann::json content = ContentOf(**journal);
  const std::optional<CoordinatorState> state = (*journal)->state();
  journal->reset();  // its lock
  journal = Journal::Open(path);
  MUSTER_CHECK(journal.has_value() && ContentOf(**journal) == content, "it changes by opening it");
  const CoordinatorState next = state ? *state : SomeState(1);
  MUSTER_CHECK((*journal)->Append(next).has_value());
  const nlohmann::json appended = ContentOf(**journal);
  journal->reset();
  journal = Journal::Open(path);
  MUSTER_CHECK(journal.has_value() && ContentOf(**journal) == appended, "what is appended is lost");
  if (state) TakeOver(*state);
  return 0;
}
