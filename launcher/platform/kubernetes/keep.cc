#include "launcher/platform/kubernetes/keep.h"

#include <fcntl.h>

#include <span>

#include "launcher/job/fields.h"
#include "launcher/job/outcome.h"
#include "launcher/job/store.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/base/unique_fd.h"

namespace muster::kubernetes {
namespace {

using nlohmann::json;

uint64_t SequenceOf(const std::string& line) {
  return FieldOr<uint64_t>(json::parse(line, nullptr, false), "sequence", 0);
}

template <typename OnLine>
void ForEachLine(const std::string& text, OnLine on_line) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) on_line(text.substr(begin, end - begin));
    begin = end + 1;
  }
}

}  // namespace

EventFile::EventFile(const JobFolder& folder) : path_(folder.events()) {
  const auto text = ReadFile(path_);
  if (!text) return;
  ForEachLine(*text, [this](const std::string& line) {
    last_sequence_ = std::max(last_sequence_, SequenceOf(line));
  });
}

void EventFile::Add(const std::string& lines) {
  std::string fresh;
  ForEachLine(lines, [&](const std::string& line) {
    const uint64_t sequence = SequenceOf(line);
    if (sequence <= last_sequence_) return;
    last_sequence_ = sequence;
    fresh += line + "\n";
  });
  if (fresh.empty()) return;
  const UniqueFd fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  const Status written = fd ? WriteAll(fd.get(), std::as_bytes(std::span(fresh)), path_.string())
                            : Status(ErrnoError(errno, "cannot open " + path_.string()));
  if (!written && works_) log::warn("events not kept error=\"{}\"", written.error().ToString());
  works_ = written.has_value();
}

void KeepEnd(const JobFolder& folder, const JobSpec& spec, const std::string& finished,
             const std::string& status) {
  const json result = json::parse(finished, nullptr, false);
  json last = json::parse(status, nullptr, false);
  if (!last.is_object()) {
    last = json::parse(ReadFile(folder.status()).value_or(""), nullptr, false);
  }
  if (!last.is_object()) last = PendingStatus(spec, "kubernetes");
  for (const char* name : {"step", "loss", "samples_consumed"}) {
    if (result.contains(name)) last[name] = result[name];
  }
  last = FinalStatus(std::move(last), FieldOr<std::string>(result, "phase", "failed"),
                     FieldOr<std::string>(result, "message", ""));
  // The result last: with it the job counts as ended.
  WriteOrWarn(folder.status(), last.dump(-1, ' ', false, json::error_handler_t::replace));
  WriteOrWarn(folder.result(), finished);
}

void KeepStatus(const JobFolder& folder, const std::string& status) {
  WriteOrWarn(folder.status(), status);
}

}  // namespace muster::kubernetes
