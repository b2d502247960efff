#include "launcher/jobfile/document.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "launcher/jobfile/scalars.h"

namespace muster {
namespace {

// Ends the reading where it makes no sense to go on; never leaves this file.
struct Stop {};

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Finds places in a text: yaml-cpp counts bytes from 0, people count characters from 1.
class Source {
 public:
  explicit Source(std::string text) : text_(std::move(text)) {
    for (size_t i = 0; i < text_.size(); ++i) {
      if (text_[i] == '\n') starts_.push_back(i + 1);
      characters_.push_back(characters_.back() + (IsContinuation(text_[i]) ? 0 : 1));
    }
  }

  const std::string& text() const { return text_; }

  size_t Offset(const YAML::Mark& mark) const {
    if (mark.line < 0 || static_cast<size_t>(mark.line) >= starts_.size()) return text_.size();
    const size_t start = starts_[static_cast<size_t>(mark.line)];
    return std::min(start + static_cast<size_t>(std::max(0, mark.column)), text_.size());
  }

  Position At(size_t offset) const {
    const auto next = std::upper_bound(starts_.begin(), starts_.end(), offset);
    return {static_cast<int>(next - starts_.begin()),
            characters_[offset] - characters_[*std::prev(next)] + 1};
  }
  Position At(const YAML::Mark& mark) const { return At(Offset(mark)); }

  std::string_view From(const YAML::Mark& mark) const {
    return std::string_view(text_).substr(Offset(mark));
  }

  bool HasTab(const YAML::Mark& mark) const {
    const size_t offset = Offset(mark);
    const size_t start = *std::prev(std::upper_bound(starts_.begin(), starts_.end(), offset));
    const std::string_view text = text_;
    return text.substr(start, text.find('\n', start) - start).find('\t') != text.npos;
  }

 private:
  std::string text_;
  std::vector<size_t> starts_{0};   // of each line
  std::vector<int> characters_{0};  // before each byte
};

// The bytes of the character at `text`'s beginning, 0 if it is not UTF-8 (RFC 3629: shortest form, no surrogates).
size_t CharacterBytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const size_t bytes = byte(0) < 0x80   ? 1
                       : byte(0) < 0xC2 ? 0
                       : byte(0) < 0xE0 ? 2
                       : byte(0) < 0xF0 ? 3
                       : byte(0) < 0xF5 ? 4
                                        : 0;
  if (bytes == 0 || text.size() < bytes) return 0;
  for (size_t i = 1; i < bytes; ++i) {
    if (!IsContinuation(text[i])) return 0;
  }
  if (byte(0) == 0xE0 && byte(1) < 0xA0) return 0;
  if (byte(0) == 0xED && byte(1) >= 0xA0) return 0;
  if (byte(0) == 0xF0 && byte(1) < 0x90) return 0;
  if (byte(0) == 0xF4 && byte(1) >= 0x90) return 0;
  return bytes;
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t bytes = CharacterBytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

// Whether all of `text` is characters that a person can see and type.
std::optional<FileError> CheckCharacters(const Source& source) {
  const std::string_view text = source.text();
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = CharacterBytes(text.substr(i));
    const auto first = static_cast<unsigned char>(text[i]);
    if (bytes == 0) {
      return FileError{source.At(i), fmt::format("byte 0x{:02x} is not valid UTF-8; save the file "
                                                 "as UTF-8",
                                                 first)};
    }
    const bool upper =
        bytes == 2 && first == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if ((first < 0x20 && first != '\n' && first != '\t') || first == 0x7F || upper) {
      const int code = upper ? static_cast<unsigned char>(text[i + 1]) : first;
      return FileError{source.At(i),
                       fmt::format("control character U+{:04X} is not allowed", code)};
    }
    i += bytes;
  }
  return std::nullopt;
}

// YAML gives a tab no width, so its indentation would depend on who looks. JSON has no indentation.
std::vector<FileError> CheckTabs(const Source& source) {
  const std::string_view text = source.text();
  const size_t first = text.find_first_not_of(" \t\n");
  if (first == text.npos || text[first] == '{') return {};
  std::vector<FileError> errors;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    const size_t tab = text.substr(start, end - start).find('\t');
    const size_t word = text.substr(start, end - start).find_first_not_of(" \t");
    if (tab != text.npos && word != text.npos && tab < word && text[start + word] != '#') {
      errors.push_back({source.At(start + tab), "a tab in the indentation; use spaces"});
    }
    start = end + 1;
  }
  return errors;
}

// What yaml-cpp says, as a sentence that says what to do.
std::string Explain(std::string_view message) {
  static constexpr std::pair<std::string_view, std::string_view> kSentences[] = {
      {"illegal map value", "a key is not possible here; put text that holds \": \" in quotes"},
      {"end of map not found", "this does not fit the lines above; check the indentation"},
      {"illegal block entry", "a list item is not possible here; begin it on a line of its own"},
      {"end of map flow not found", "a \"{\" before this is not closed, or a comma is missing"},
      {"end of sequence flow not found",
       "a \"[\" before this is not closed, or a comma is missing"},
      {"end of sequence not found", "this does not fit the list above; check the indentation"},
      {"unknown token", "text cannot begin with this character; put it in quotes"},
      {"the referenced anchor is not defined", "aliases are not allowed; write the value out"},
  };
  for (const auto& [theirs, ours] : kSentences) {
    if (message == theirs) return std::string(ours);
  }
  if (message.starts_with("invalid unicode")) {
    return "this escape is no character; write the character itself (a pair of \\u is two halves)";
  }
  return fmt::format("not valid YAML: {}", message);
}

// Builds the tree from the events of yaml-cpp. Its own nodes would hide keys given twice and multiply aliases.
class Builder final : public YAML::EventHandler {
 public:
  Builder(const Source& source, std::vector<FileError>& errors)
      : source_(source), errors_(errors) {}

  DocumentNode Take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (!std::exchange(begun_, true)) return;
    Complain(mark, "a second document begins here; a job file holds one");
    throw Stop();
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    DocumentNode node{.kind = DocumentNode::Kind::kNothing, .at = source_.At(mark)};
    if (AwaitsValue()) {
      // An empty value has the place of what follows it; its key says more.
      const DocumentEntry& entry = frames_.back().node.entries.back();
      const std::string_view text = source_.From(mark);
      const bool written = text.starts_with('~') || text.starts_with("null") ||
                           text.starts_with("Null") || text.starts_with("NULL");
      if (!written || node.at.line != entry.at.line) node.at = entry.at;
    }
    Add(mark, "", anchor, std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Complain(mark, "aliases are not allowed; write the value out");
    Add(mark, "", 0, {.kind = DocumentNode::Kind::kRefused, .at = source_.At(mark)});
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    DocumentNode node{.kind = DocumentNode::Kind::kText, .at = source_.At(mark), .text = value};
    node.plain = tag == "?";
    const std::string_view text = source_.From(mark);
    // yaml-cpp folds lines into one, and takes the end of the file for a closing quote.
    if (node.plain && anchor == 0 && !text.starts_with(value)) {
      Complain(mark, "text without quotes goes on in the next line; put it in quotes");
      node.kind = DocumentNode::Kind::kRefused;
    } else if (!node.plain && !IsClosed(text)) {
      Complain(mark, "the quote that begins here is not closed");
      node.kind = DocumentNode::Kind::kRefused;
    } else if (!IsUtf8(value)) {
      // Of these two yaml-cpp makes a byte that is no character.
      Complain(mark, "the escapes \\N and \\_ are not allowed; write \\u0085 or \\u00a0");
      node.kind = DocumentNode::Kind::kRefused;
    }
    Add(mark, tag, anchor, std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, DocumentNode::Kind::kList);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, DocumentNode::Kind::kMapping);
  }
  void OnMapEnd() override { Close(); }

 private:
  struct Frame {
    YAML::Mark mark;
    DocumentNode node;
    std::map<std::string, int> keys;  // with their lines
    bool value_next = false;          // kMapping: a key has been read
    bool drop_value = false;          // its key was refused
    bool refused = false;             // a tag or an anchor
  };

  void Complain(const YAML::Mark& mark, std::string message) {
    errors_.push_back({source_.At(mark), std::move(message)});
  }

  static bool IsClosed(std::string_view text) {
    if (text.empty() || (text[0] != '\'' && text[0] != '"')) return true;  // a block of text
    for (size_t i = 1; i < text.size(); ++i) {
      if (text[0] == '"' && text[i] == '\\') {
        ++i;
      } else if (text[i] == text[0]) {
        if (text[0] == '"' || i + 1 == text.size() || text[i + 1] != '\'') return true;
        ++i;
      }
    }
    return false;
  }

  bool AwaitsValue() const {
    return !frames_.empty() && frames_.back().value_next && !frames_.back().drop_value;
  }

  // Whether `tag` and `anchor` are as they should be: not there.
  bool CheckProperties(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != 0) Complain(mark, "anchors are not allowed; write the value out");
    const bool tagged = !tag.empty() && tag != "?" && tag != "!";
    if (tagged) Complain(mark, "tags are not allowed; the key says what kind of value it has");
    return anchor == 0 && !tagged;
  }

  void Open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
            DocumentNode::Kind kind) {
    if (frames_.size() >= kMaxJobFileDepth) {
      Complain(mark, fmt::format("nested deeper than {} levels", kMaxJobFileDepth));
      throw Stop();
    }
    Frame frame{.mark = mark, .node = {.kind = kind, .at = source_.At(mark)}};
    frame.refused = !CheckProperties(mark, tag, anchor);
    frames_.push_back(std::move(frame));
  }

  void Close() {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    if (frame.refused) frame.node.kind = DocumentNode::Kind::kRefused;
    Attach(frame.mark, std::move(frame.node));
  }

  void Add(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
           DocumentNode node) {
    if (!CheckProperties(mark, tag, anchor)) node.kind = DocumentNode::Kind::kRefused;
    Attach(mark, std::move(node));
  }

  void Attach(const YAML::Mark& mark, DocumentNode node) {
    if (frames_.empty()) {
      root_ = std::move(node);
    } else if (frames_.back().node.kind == DocumentNode::Kind::kList) {
      frames_.back().node.items.push_back(std::move(node));
    } else if (std::exchange(frames_.back().value_next, !frames_.back().value_next)) {
      if (!frames_.back().drop_value) frames_.back().node.entries.back().value = std::move(node);
    } else {
      AddKey(mark, std::move(node));
    }
  }

  void AddKey(const YAML::Mark& mark, DocumentNode node) {
    Frame& frame = frames_.back();
    frame.drop_value = true;
    if (node.kind == DocumentNode::Kind::kRefused) return;
    if (node.kind != DocumentNode::Kind::kText) return Complain(mark, "a key must be a word");
    const auto [first, is_new] = frame.keys.emplace(node.text, node.at.line);
    if (!is_new) {
      return Complain(
          mark, fmt::format("{} is given twice, first in line {}", Shown(node), first->second));
    }
    frame.drop_value = false;
    frame.node.entries.push_back({std::move(node.text), node.at, {}});
  }

  const Source& source_;
  std::vector<FileError>& errors_;
  std::vector<Frame> frames_;
  DocumentNode root_;
  bool begun_ = false;
};

// Lines end with \n here, and a byte order mark is no character.
std::string Normalised(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r' || i + 1 == text.size() || text[i + 1] != '\n') result += text[i];
  }
  return result;
}

void Parse(const Source& source, Document& document) {
  Builder builder(source, document.errors);
  try {
    std::istringstream stream(source.text());
    YAML::Parser parser(stream);
    bool any = false;
    while (parser.HandleNextDocument(builder)) any = true;
    if (!any) document.errors.push_back({{1, 1}, "the file holds nothing"});
    document.complete = any;
  } catch (const Stop&) {
  } catch (const YAML::Exception& error) {
    std::string message = Explain(error.msg);
    if (source.HasTab(error.mark)) message += " (the line holds a tab)";
    document.errors.push_back({source.At(error.mark), std::move(message)});
  } catch (const std::exception& error) {
    document.errors.push_back({{1, 1}, fmt::format("not valid YAML: {}", error.what())});
  }
  document.root = builder.Take();
}

}  // namespace

const DocumentEntry* DocumentNode::Find(std::string_view key) const {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const DocumentEntry& entry) { return entry.key == key; });
  return found == entries.end() ? nullptr : &*found;
}

Document ReadDocument(std::string_view text) {
  Document document;
  if (text.size() > kMaxJobFileBytes) {
    document.errors.push_back({{1, 1},
                               fmt::format("the file has {} bytes, at most {} are allowed",
                                           text.size(), kMaxJobFileBytes)});
    return document;
  }
  const Source source(Normalised(text));
  if (auto error = CheckCharacters(source)) {
    document.errors.push_back(std::move(*error));
    return document;
  }
  document.errors = CheckTabs(source);
  if (document.errors.empty()) Parse(source, document);
  return document;
}

}  // namespace muster
