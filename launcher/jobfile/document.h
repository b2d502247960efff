// Document: YAML or JSON text as a tree of nodes that know where they stand, without the surprises of YAML.
//
// Only what a job file needs is let through: one document, mappings with words as keys, lists, and scalars as their text. Refused
// are keys given twice, anchors and aliases, tags, tabs in the indentation, control characters, what is not UTF-8, and what is
// larger or deeper than the limits. What a scalar means is not decided here (scalars.h): `no` stays "no", 010 stays "010".
//
// Threading: pure functions.
// Ownership: plain values; a Document does not refer to the text that it was read from.
#pragma once

#include <compare>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

inline constexpr size_t kMaxJobFileBytes = size_t{256} << 10;
inline constexpr size_t kMaxJobFileDepth = 16;

// From 1; a column is a character, not a byte.
struct Position {
  int line = 1;
  int column = 1;
  auto operator<=>(const Position&) const = default;
};

// What is wrong at a place of a file. The message is a sentence without a full stop, with a suggestion where there is one.
struct FileError {
  Position at;
  std::string message;
  auto operator<=>(const FileError&) const = default;
};

struct DocumentEntry;

struct DocumentNode {
  enum class Kind {
    kNothing,  // ~, null, or no value at all
    kText,     // a scalar
    kList,
    kMapping,
    kRefused,  // an error has been reported, nothing is known of it
  };
  Kind kind = Kind::kNothing;
  Position at;                         // of its first character; of its key if there is none
  std::string text;                    // kText
  bool plain = false;                  // kText: written without quotes
  std::vector<DocumentNode> items;     // kList
  std::vector<DocumentEntry> entries;  // kMapping, in the order of the file, each key once

  // The entry of a mapping, or null.
  const DocumentEntry* Find(std::string_view key) const;
};

struct DocumentEntry {
  std::string key;
  Position at;  // of the key
  DocumentNode value;
};

struct Document {
  DocumentNode root;
  std::vector<FileError> errors;
  bool complete = false;  // the whole text was read; if not, `root` lacks what follows the error
};

// Never fails otherwise than by `errors`. Takes time and memory in proportion to the text.
Document ReadDocument(std::string_view text);

}  // namespace muster
