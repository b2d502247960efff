#include "launcher/rendezvous/file_text.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace muster {
namespace {

constexpr uint64_t kPieceBytes = 64 << 10;

// Where the last `count` lines of `text` begin. The end of the last line need not be there yet.
size_t LastLines(std::string_view text, uint64_t count) {
  if (count == 0) return text.size();
  size_t end = text.size();
  if (text.ends_with('\n')) --end;
  for (; count > 0 && end != text.npos; --count)
    end = end == 0 ? text.npos : text.rfind('\n', end - 1);
  return end == text.npos ? 0 : end + 1;
}

}  // namespace

Result<std::unique_ptr<FileText>> FileText::Open(const std::filesystem::path& path,
                                                 std::optional<uint64_t> tail) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, path.string());
  std::unique_ptr<FileText> text(new FileText(path, std::move(fd)));
  MUSTER_TRY(text->FindStart(tail));
  return text;
}

Status FileText::FindStart(std::optional<uint64_t> tail) {
  struct stat facts = {};
  if (::fstat(fd_.get(), &facts) != 0) return ErrnoError(errno, path_.string());
  inode_ = facts.st_ino;
  end_ = static_cast<uint64_t>(facts.st_size);
  if (!tail) return {};
  at_ = end_ - std::min(end_, kMaxTailBytes);
  const std::string text = Read(end_ - at_);
  at_ = end_ - text.size() + LastLines(text, *tail);
  return {};
}

// At most `limit` bytes from at_ on; fewer at the end of the file. Does not move.
std::string FileText::Read(uint64_t limit) {
  std::string text(limit, '\0');
  size_t size = 0;
  while (size < limit) {
    const ssize_t got =
        ::pread(fd_.get(), text.data() + size, limit - size, static_cast<off_t>(at_ + size));
    if (got <= 0) break;
    size += static_cast<size_t>(got);
  }
  text.resize(size);
  return text;
}

// Whether the name belongs to another file by now: then nobody appends to ours any more.
bool FileText::Replaced() const {
  struct stat facts = {};
  return ::stat(path_.c_str(), &facts) == 0 && facts.st_ino != inode_;
}

std::string FileText::ReadOnInTheNextFile(uint64_t limit) {
  UniqueFd next(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat facts = {};
  if (!next || ::fstat(next.get(), &facts) != 0) return "";
  fd_ = std::move(next);
  inode_ = facts.st_ino;
  at_ = 0;
  return Read(limit);
}

TextStream::Piece FileText::Next() {
  const bool ended = ended_ && ended_();  // asked before the file: what was said before is in it
  const bool replaced = ended_ && Replaced();
  const uint64_t limit = ended_ ? kPieceBytes : std::min(kPieceBytes, end_ - std::min(at_, end_));
  Piece piece{Read(limit), false};
  if (piece.text.empty() && replaced) piece.text = ReadOnInTheNextFile(limit);
  at_ += piece.text.size();
  piece.end = piece.text.empty() && (ended || !ended_);
  return piece;
}

}  // namespace muster
