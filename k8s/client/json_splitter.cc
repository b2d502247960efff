#include "k8s/client/json_splitter.h"

namespace muster::k8s {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

}  // namespace

void JsonSplitter::Feed(std::string_view bytes) {
  // What has been given out goes, before the rest grows.
  bytes_.erase(0, begin_);
  scanned_ -= begin_;
  begin_ = 0;
  bytes_ += bytes;
}

Result<std::optional<std::string>> JsonSplitter::Next() {
  for (; scanned_ < bytes_.size(); ++scanned_) {
    const char c = bytes_[scanned_];
    if (depth_ == 0) {
      begin_ = scanned_;
      if (IsSpace(c)) continue;
      if (c != '{') {
        return WithHint(Err(Code::kDataLoss, "the stream holds something that is no JSON object"),
                        "is server in the kubeconfig an API server, or is a proxy in between?");
      }
      depth_ = 1;
    } else if (escaped_) {
      escaped_ = false;
    } else if (in_string_) {
      escaped_ = c == '\\';
      in_string_ = c != '"';
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{') {
      ++depth_;
    } else if (c == '}' && --depth_ == 0) {
      ++scanned_;
      std::string object = bytes_.substr(begin_, scanned_ - begin_);
      begin_ = scanned_;
      return object;
    }
  }
  if (depth_ == 0) begin_ = scanned_;
  if (bytes_.size() - begin_ > max_object_bytes_) {
    return Err(Code::kResourceExhausted, "an object of more than {} bytes", max_object_bytes_);
  }
  return std::nullopt;
}

bool JsonSplitter::AtBoundary() const { return depth_ == 0; }

}  // namespace muster::k8s
