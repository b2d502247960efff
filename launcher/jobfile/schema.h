// Schema: every key that a job file may have, as one table. The reader, `launcher schema`, its JSON Schema and docs/job-file.md all
// come from it.
//
// Threading: constant data.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

struct Field {
  enum class Kind {
    kText,
    kNumber,   // whole, from `low` to `high`
    kSwitch,   // true or false
    kChoice,   // one of `choices`
    kWorkers,  // N or MIN:MAX
    kGrowth,   // max, step K or opportunistic
    kTexts,    // a list of texts
    kNames,    // a mapping of names to texts
    kSection,  // a mapping with the keys below `path`, or one of `choices` if there are any
    kPools,    // a list of such mappings
  };
  std::string_view path;  // "checkpoint.dir"; "pools.workers" for each of the pools
  Kind kind = Kind::kText;
  std::string_view standard;  // what counts if it is not given; empty: nothing
  std::string_view help;
  std::vector<std::string_view> choices = {};
  int64_t low = 0;
  int64_t high = 0;
  bool kubernetes = false;  // this machine cannot honour it: needs --platform kubernetes
  bool required = false;    // in its section
};

// A section comes before its keys.
std::span<const Field> JobFileFields();

// The row of `path`; aborts if there is none.
const Field& FieldOf(std::string_view path);

// The keys right in the section `path`, "" for the top.
std::vector<std::string> KeysOf(std::string_view path);

// What may stand there: "text", "number from 1 to 64", "one of cpu, gpu".
std::string TypeText(const Field& field);

// A JSON Schema (draft 2020-12) for editors. It knows keys and types; what depends on several keys only the reader knows.
std::string JsonSchema();

}  // namespace muster
