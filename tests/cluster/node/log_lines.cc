#include "tests/cluster/node/log_lines.h"

#include <algorithm>
#include <charconv>
#include <ctime>

namespace muster::cluster {
namespace {

constexpr std::string_view kEndpoint = "/containerLogs/";

// The part of `text` up to `separator`, which is taken off `text` with it.
std::string_view TakeUntil(std::string_view& text, char separator) {
  const std::string_view part = text.substr(0, text.find(separator));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

Status SetOption(std::string_view name, std::string_view value, LogRequest& request) {
  if (name == "follow") request.follow = value == "true";
  if (name == "timestamps") request.timestamps = value == "true";
  if (name == "previous" && value == "true") {
    return Err(Code::kUnimplemented, "a process node never starts a container twice");
  }
  for (const auto& [number, member] : {std::pair{"tailLines", &LogRequest::tail_lines},
                                       std::pair{"sinceSeconds", &LogRequest::since_seconds},
                                       std::pair{"limitBytes", &LogRequest::limit_bytes}}) {
    if (name != number) continue;
    uint64_t read = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), read);
    if (error != std::errc() || end != value.data() + value.size()) {
      return Err(Code::kInvalidArgument, "{}={} is no number", name, value);
    }
    request.*member = read;
  }
  return {};
}

// RFC 3339 with nanoseconds, as in the logs of containers.
std::string Stamp(LogTime time) {
  const auto since = time.time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
  const std::time_t whole = seconds.count();
  std::tm parts{};
  ::gmtime_r(&whole, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  const auto rest = std::chrono::duration_cast<std::chrono::nanoseconds>(since - seconds);
  return fmt::format("{}.{:09}Z ", text, rest.count());
}

}  // namespace

Result<LogRequest> ParseLogTarget(std::string_view target) {
  std::string_view path = TakeUntil(target, '?');
  if (!path.starts_with(kEndpoint)) return Err(Code::kNotFound, "{} is not served here", path);
  path.remove_prefix(kEndpoint.size());
  const std::string_view space = TakeUntil(path, '/');
  const std::string_view pod = TakeUntil(path, '/');
  LogRequest request{.pod = fmt::format("{}/{}", space, pod), .container = std::string(path)};
  while (!target.empty()) {
    std::string_view value = TakeUntil(target, '&');
    const std::string_view name = TakeUntil(value, '=');
    MUSTER_TRY(SetOption(name, value, request));
  }
  return request;
}

uint64_t LogBegin(const LogRequest& request, std::string_view log,
                  const std::vector<LogPiece>& pieces, LogTime now) {
  uint64_t begin = 0;
  if (request.tail_lines) {
    // A last line without its end counts as one.
    begin = log.size();
    for (uint64_t lines = 0; lines < *request.tail_lines && begin > 0; ++lines) {
      const size_t before = begin == 1 ? log.npos : log.rfind('\n', begin - 2);
      begin = before == log.npos ? 0 : before + 1;
    }
  }
  if (request.since_seconds) {
    uint64_t since = 0;
    for (const LogPiece& piece : pieces) {
      if (piece.time < now - std::chrono::seconds(*request.since_seconds)) since = piece.end;
    }
    const size_t line_end = since == 0 ? log.npos : log.find('\n', since - 1);
    if (since > 0) since = line_end == log.npos ? log.size() : line_end + 1;
    begin = std::max(begin, since);
  }
  return begin;
}

std::string LogText(const LogRequest& request, std::string_view bytes, uint64_t begin,
                    const std::vector<LogPiece>& pieces, bool at_line_begin) {
  if (!request.timestamps) return std::string(bytes);
  std::string text;
  auto piece = std::upper_bound(pieces.begin(), pieces.end(), begin,
                                [](uint64_t at, const LogPiece& p) { return at < p.end; });
  for (size_t i = 0; i < bytes.size(); ++i) {
    while (piece != pieces.end() && piece->end <= begin + i) ++piece;
    if (at_line_begin && piece != pieces.end()) text += Stamp(piece->time);
    text += bytes[i];
    at_line_begin = bytes[i] == '\n';
  }
  return text;
}

}  // namespace muster::cluster
