// JsonSplitter: cuts a stream of bytes into the JSON objects that follow each other in it. Pure.
//
// It looks at braces and strings only, byte by byte, so that the pieces of the stream may end anywhere, in the middle of a
// character too. Whether an object is well-formed inside is for the parser.
//
// Threading: a plain value.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/base/status.h"

namespace muster::k8s {

class JsonSplitter {
 public:
  // `max_object_bytes`: beyond it an object is an error rather than memory without end; nothing is dropped in silence.
  explicit JsonSplitter(size_t max_object_bytes = size_t{64} << 20)
      : max_object_bytes_(max_object_bytes) {}

  void Feed(std::string_view bytes);

  // The next whole object; nothing if it has not come yet. Errors: kDataLoss (something between objects that is none),
  // kResourceExhausted (too large). After an error there is nothing more to be had.
  Result<std::optional<std::string>> Next();

  // True if the stream may end here: no object is half there.
  bool AtBoundary() const;

 private:
  std::string bytes_;
  size_t begin_ = 0;    // of the object under way, or where to look for one
  size_t scanned_ = 0;  // all before has been looked at
  int depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
  const size_t max_object_bytes_;
};

}  // namespace muster::k8s
