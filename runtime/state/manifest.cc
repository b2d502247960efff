#include "runtime/state/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>

#include "runtime/base/hash.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kHashKey = ",\n  \"manifest_xxh3_128\": \"";
constexpr std::string_view kTail = "\"\n}\n";
constexpr size_t kHexDigits = 32;
constexpr int kMaxDepth = 8;

std::string HexHash(std::string_view text) {
  return HashBytes(std::as_bytes(std::span(text))).ToHex();
}

// Calls visit(name, value) for each fact; the order is the one in which differences are reported.
template <typename Facts, typename Visit>
void ForEachFact(Facts& facts, Visit visit) {
  visit("seed", facts.seed);
  visit("micro_batches", facts.micro_batches);
  visit("batch_size", facts.batch_size);
  visit("dataset_size", facts.dataset_size);
  visit("reduce", facts.reduce);
  visit("optimizer", facts.optimizer);
}

// JSON has no NaN, and a loss may be one: its bits are what is restored, the number is for readers.
Json EncodeCounters(const StateHeader& counters) {
  return {{"step", counters.step},        {"samples_consumed", counters.samples_consumed},
          {"misses", counters.misses},    {"skipped", counters.skipped},
          {"loss", counters.loss},        {"loss_bits", std::bit_cast<uint64_t>(counters.loss)},
          {"reserved", counters.reserved}};
}

// Reads members whose type is what we write; anything else throws, as nlohmann's own accessors do.
void Read(const Json& value, uint64_t& out) { out = value.get_ref<const uint64_t&>(); }
void Read(const Json& value, int64_t& out) {
  out = value.is_number_unsigned() ? static_cast<int64_t>(value.get_ref<const uint64_t&>())
                                   : value.get_ref<const int64_t&>();
}
void Read(const Json& value, std::string& out) { out = value.get_ref<const std::string&>(); }

template <typename T>
T Read(const Json& object, const char* name) {
  T value{};
  Read(object.at(name), value);
  return value;
}

const Json::array_t& Elements(const Json& object, const char* name) {
  return object.at(name).get_ref<const Json::array_t&>();
}

StateHeader ReadCounters(const Json& object) {
  StateHeader counters;
  counters.step = Read<uint64_t>(object, "step");
  counters.samples_consumed = Read<uint64_t>(object, "samples_consumed");
  counters.misses = Read<uint64_t>(object, "misses");
  counters.skipped = Read<uint64_t>(object, "skipped");
  counters.loss = std::bit_cast<double>(Read<uint64_t>(object, "loss_bits"));
  for (size_t i = 0; i < std::size(counters.reserved); ++i) {
    Read(object.at("reserved").at(i), counters.reserved[i]);
  }
  return counters;
}

Manifest ReadManifest(const Json& json) {
  Manifest manifest;
  ForEachFact(manifest.facts,
              [&](const char* name, auto& value) { Read(json.at("facts").at(name), value); });
  manifest.counters = ReadCounters(json.at("counters"));
  const Json& file = json.at("state.safetensors");
  manifest.file_bytes = Read<uint64_t>(file, "bytes");
  manifest.file_hash = Read<std::string>(file, "xxh3_128");
  for (const Json& tensor : Elements(json, "tensors")) {
    TensorSpec spec{Read<std::string>(tensor, "name"), Read<std::string>(tensor, "type"), {}};
    for (const Json& dimension : Elements(tensor, "shape")) {
      Read(dimension, spec.shape.emplace_back());
    }
    manifest.tensors.push_back(std::move(spec));
    manifest.hashes.push_back(Read<std::string>(tensor, "xxh3_128"));
  }
  return manifest;
}

// JSON that is nested deeper than ours would cost memory that its size does not show.
bool IsShallow(std::string_view json) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == '{' || c == '[')) {
      if (++depth > kMaxDepth) return false;
    } else if (!in_string && (c == '}' || c == ']')) {
      --depth;
    }
  }
  return true;
}

// The bytes that the hash covers. Errors: kDataLoss.
Result<std::string_view> CheckHash(std::string_view text) {
  constexpr size_t kEnding = kHashKey.size() + kHexDigits + kTail.size();
  if (text.size() < kEnding || !text.ends_with(kTail) ||
      text.substr(text.size() - kEnding, kHashKey.size()) != kHashKey) {
    return Err(Code::kDataLoss, "it does not end with its hash");
  }
  const std::string_view covered = text.substr(0, text.size() - kEnding);
  const std::string_view hash = text.substr(covered.size() + kHashKey.size(), kHexDigits);
  if (hash != HexHash(covered)) {
    return Err(Code::kDataLoss, "its hash is {}, but it says {}", HexHash(covered), hash);
  }
  return covered;
}

}  // namespace

Result<std::string> EncodeManifest(const Manifest& manifest) {
  Json facts;
  ForEachFact(manifest.facts, [&](const char* name, const auto& value) { facts[name] = value; });
  Json tensors = Json::array();
  for (size_t i = 0; i < manifest.tensors.size(); ++i) {
    const TensorSpec& spec = manifest.tensors[i];
    tensors.push_back({{"name", spec.name},
                       {"type", spec.type},
                       {"shape", spec.shape},
                       {"xxh3_128", manifest.hashes[i]}});
  }
  const Json counters = EncodeCounters(manifest.counters);
  const Json file = {{"bytes", manifest.file_bytes}, {"xxh3_128", manifest.file_hash}};
  try {
    std::string text = fmt::format(
        "{{\n  \"format_version\": {},\n  \"facts\": {},\n  \"counters\": {},\n"
        "  \"state.safetensors\": {},\n  \"tensors\": [",
        kCheckpointFormatVersion, facts.dump(), counters.dump(), file.dump());
    for (size_t i = 0; i < tensors.size(); ++i) {
      text += fmt::format("{}\n    {}", i == 0 ? "" : ",", tensors[i].dump());
    }
    text += "\n  ]";
    return fmt::format("{}{}{}{}", text, kHashKey, HexHash(text), kTail);
  } catch (const nlohmann::json::exception& e) {
    return Err(Code::kInvalidArgument, "a checkpoint's facts and names must be UTF-8: {}",
               e.what());
  }
}

Result<Manifest> ParseManifest(std::string_view text) {
  MUSTER_TRY(CheckHash(text));
  if (!IsShallow(text)) return Err(Code::kDataLoss, "it is nested too deep");
  try {
    const Json json = Json::parse(text);
    const auto version = Read<uint64_t>(json, "format_version");
    if (version != kCheckpointFormatVersion) {
      return WithHint(Err(Code::kFailedPrecondition,
                          "it has format version {}, but this program reads version {}", version,
                          kCheckpointFormatVersion),
                      "use the release of Muster that wrote it");
    }
    return ReadManifest(json);
  } catch (const nlohmann::json::exception& e) {
    return Err(Code::kDataLoss, "it is not a manifest: {}", e.what());
  }
}

Status CompareFacts(const CheckpointFacts& expected, const CheckpointFacts& found) {
  std::vector<std::pair<std::string, std::string>> values;
  ForEachFact(found, [&](const char* name, const auto& value) {
    values.emplace_back(name, fmt::format("{}", value));
  });
  size_t i = 0;
  Status status;
  ForEachFact(expected, [&](const char* name, const auto& value) {
    const std::string wanted = fmt::format("{}", value);
    if (status && values[i].second != wanted) {
      status = WithHint(
          Err(Code::kFailedPrecondition, "it was written with {} = {}, but this run has {}", name,
              values[i].second, wanted),
          "run with the same value, or into another checkpoint folder");
    }
    ++i;
  });
  return status;
}

}  // namespace muster
