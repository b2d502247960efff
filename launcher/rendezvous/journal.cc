#include "launcher/rendezvous/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

#include "launcher/job/fields.h"
#include "launcher/rendezvous/state_json.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/files.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

using nlohmann::json;

constexpr std::string_view kFileMagic = "MUSTERJ1";
constexpr std::string_view kRecordMagic = "MREC";
constexpr size_t kLengthBytes = sizeof(uint32_t);
constexpr size_t kHashBytes = 2 * sizeof(uint64_t);
constexpr size_t kRecordHeader = kRecordMagic.size() + kLengthBytes + kHashBytes;
constexpr size_t kMaxFileBytes = 64 << 20;
static_assert(std::endian::native == std::endian::little,
              "the journal is written in the order of the machine");

template <typename Number>
void AppendNumber(std::string& out, Number number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

template <typename Number>
Number ReadNumber(std::string_view from) {
  Number number;
  std::memcpy(&number, from.data(), sizeof number);
  return number;
}

Hash128 Checksum(std::string_view length_and_payload) {
  return HashBytes(std::as_bytes(std::span(length_and_payload)));
}

std::string MakeRecord(const std::string& payload) {
  std::string covered;
  AppendNumber(covered, static_cast<uint32_t>(payload.size()));
  covered += payload;
  const Hash128 hash = Checksum(covered);
  std::string record(kRecordMagic);
  record += covered.substr(0, kLengthBytes);
  AppendNumber(record, hash.high);
  AppendNumber(record, hash.low);
  return record + payload;
}

// The payload of the record that `text` begins with, if it begins with a whole one.
std::optional<std::string_view> ReadRecord(std::string_view text) {
  if (text.size() < kRecordHeader || !text.starts_with(kRecordMagic)) return std::nullopt;
  const std::string_view length_bytes = text.substr(kRecordMagic.size(), kLengthBytes);
  const auto length = ReadNumber<uint32_t>(length_bytes);
  if (length > text.size() - kRecordHeader) return std::nullopt;
  const std::string_view payload = text.substr(kRecordHeader, length);
  const std::string_view hash = text.substr(kRecordMagic.size() + kLengthBytes, kHashBytes);
  const Hash128 stored{ReadNumber<uint64_t>(hash),
                       ReadNumber<uint64_t>(hash.substr(sizeof(uint64_t)))};
  if (Checksum(std::string(length_bytes) + std::string(payload)) != stored) return std::nullopt;
  return payload;
}

std::string ToPayload(const JournalContent& content) {
  const json object = {{"port", content.port},
                       {"state", content.state ? ToJson(*content.state) : json(nullptr)}};
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<JournalContent> FromPayload(std::string_view payload) {
  try {
    const json object = ParseIntegerJson(payload);
    JournalContent content;
    object.at("port").get_to(content.port);
    if (!object.at("state").is_null()) content.state = StateFromJson(object.at("state"));
    return content;
  } catch (const json::exception& error) {
    return Err(Code::kDataLoss, "a record of the journal cannot be read: {}", error.what());
  }
}

// All of `data` at `offset`; short writes go on.
Status WriteAt(int fd, std::string_view data, size_t offset, const std::filesystem::path& path) {
  while (!data.empty()) {
    const ssize_t put = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoError(errno, fmt::format("cannot write {}", path.string()));
    data.remove_prefix(static_cast<size_t>(put));
    offset += static_cast<size_t>(put);
  }
  MUSTER_TRY(Failpoint("journal.sync"));
  if (::fdatasync(fd) != 0) return ErrnoError(errno, fmt::format("cannot sync {}", path.string()));
  return {};
}

Status Lock(int fd, const std::filesystem::path& path) {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return {};
  if (errno == EWOULDBLOCK) {
    return Err(Code::kFailedPrecondition, "another coordinator of this job is running: it holds {}",
               path.string());
  }
  return ErrnoError(errno, fmt::format("cannot lock {}", path.string()));
}

bool IsFileAt(int fd, const std::filesystem::path& path) {
  struct stat open_file {};
  struct stat named {};
  return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open_file.st_ino == named.st_ino && open_file.st_dev == named.st_dev;
}

}  // namespace

Result<std::unique_ptr<Journal>> Journal::Open(const std::filesystem::path& path) {
  std::unique_ptr<Journal> journal(new Journal(path));
  MUSTER_TRY(journal->OpenLocked());
  MUSTER_TRY(journal->Load());
  return journal;
}

// Between open() and flock() the former owner may have replaced the file: then the lock is on one that has no name any more.
Status Journal::OpenLocked() {
  do {
    fd_.reset(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd_) return ErrnoError(errno, fmt::format("cannot open {}", path_.string()));
    MUSTER_TRY(Lock(fd_.get(), path_));
  } while (!IsFileAt(fd_.get(), path_));
  return {};
}

Status Journal::Load() {
  MUSTER_ASSIGN(const std::string text, ReadFile(path_, kMaxFileBytes));
  const std::string_view file = text;
  const bool torn_magic = file.size() < kFileMagic.size() && kFileMagic.starts_with(file);
  if (!torn_magic && !file.starts_with(kFileMagic)) {
    return WithHint(Err(Code::kDataLoss, "{} is not a journal", path_.string()),
                    "its first bytes are not MUSTERJ1");
  }
  end_ = kFileMagic.size();
  size_t at = end_;
  while (at < file.size()) {
    const std::optional<std::string_view> payload = ReadRecord(file.substr(at));
    if (!payload) {
      at = std::min(file.find(kRecordMagic, at + 1), file.size());
      continue;
    }
    MUSTER_ASSIGN(content_, FromPayload(*payload));
    at += kRecordHeader + payload->size();
    end_ = at;
  }
  if (!torn_magic && end_ == file.size()) return {};
  if (end_ < file.size()) {
    log::warn("journal={} torn_bytes={} action=ignored", path_.string(), file.size() - end_);
  }
  if (::ftruncate(fd_.get(), static_cast<off_t>(torn_magic ? 0 : end_)) != 0) {
    return ErrnoError(errno, fmt::format("cannot truncate {}", path_.string()));
  }
  if (!torn_magic) return {};
  Reserve();
  MUSTER_TRY(WriteAt(fd_.get(), kFileMagic, 0, path_));
  return SyncFolder(path_.parent_path());
}

Status Journal::Append(const CoordinatorState& state) {
  const Status written = Write({content_.port, state});
  if (written) return {};
  return WithHint(tl::unexpected<Error>(written.error()),
                  "free some space and resume from the last checkpoint");
}

Status Journal::SavePort(int port) { return Write({port, content_.state}); }

Status Journal::Write(const JournalContent& content) {
  MUSTER_TRY(Failpoint("journal.write"));
  const std::string record = MakeRecord(ToPayload(content));
  if (end_ > kCompactBytes) {
    const Status compacted = Compact(record);
    if (compacted) {
      content_ = content;
      return {};
    }
    log::warn("journal={} compaction=failed reason=\"{}\"", path_.string(),
              compacted.error().message);
  }
  const Status written = WriteAt(fd_.get(), record, end_, path_);
  if (!written) {
    // What has been written of it goes; if that fails too, the next record is written over it.
    if (::ftruncate(fd_.get(), static_cast<off_t>(end_)) != 0)
      log::warn("journal={} truncation=failed", path_.string());
    Reserve();
    return written;
  }
  end_ += record.size();
  content_ = content;
  (void)Failpoint("journal.written");
  return {};
}

// The new file is locked before it gets the name, so that there is no moment without a lock.
Status Journal::Compact(const std::string& record) {
  const std::filesystem::path temporary = path_.string() + ".new";
  UniqueFd fd(::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return ErrnoError(errno, fmt::format("cannot create {}", temporary.string()));
  Status written = Lock(fd.get(), temporary);
  if (written) written = WriteAt(fd.get(), std::string(kFileMagic) + record, 0, temporary);
  if (written && ::rename(temporary.c_str(), path_.c_str()) != 0) {
    written = ErrnoError(errno,
                         fmt::format("cannot rename {} to {}", temporary.string(), path_.string()));
  }
  if (!written) {
    ::unlink(temporary.c_str());
    return written;
  }
  fd_ = std::move(fd);
  end_ = kFileMagic.size() + record.size();
  Reserve();
  return SyncFolder(path_.parent_path());
}

// Only a help: where the file system cannot do it, a full disk shows when a record is written.
void Journal::Reserve() const {
  if (::fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, 0, kCompactBytes) != 0) {
    log::debug("journal={} reserve=failed reason=\"{}\"", path_.string(), std::strerror(errno));
  }
}

}  // namespace muster
