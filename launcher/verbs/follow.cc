#include "launcher/verbs/follow.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace muster {
namespace {

constexpr size_t kReadBytes = 64 << 10;
constexpr size_t kLongestLine = 1 << 20;  // a longer one is handed out in pieces

UniqueFd OpenFile(const std::filesystem::path& path, ino_t& inode) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat facts = {};
  if (fd && ::fstat(fd.get(), &facts) == 0) inode = facts.st_ino;
  return fd;
}

}  // namespace

LineFollower::LineFollower(std::filesystem::path path, bool with_older) : path_(std::move(path)) {
  if (with_older) fd_ = OpenFile(path_.string() + ".1", inode_);
}

// Goes on to the file that has the name now, if that is another one than the one that was read to its end.
bool LineFollower::OpenNext() {
  struct stat facts = {};
  if (::stat(path_.c_str(), &facts) != 0 || (fd_ && facts.st_ino == inode_)) return false;
  UniqueFd next = OpenFile(path_, inode_);
  if (!next) return false;
  fd_ = std::move(next);
  return true;
}

bool LineFollower::ReadMore() {
  char buffer[kReadBytes];
  do {
    const ssize_t got = fd_ ? ::read(fd_.get(), buffer, sizeof buffer) : 0;
    if (got > 0) {
      rest_.append(buffer, static_cast<size_t>(got));
      return true;
    }
  } while (OpenNext());
  return false;
}

std::vector<std::string> LineFollower::Read(size_t limit) {
  std::vector<std::string> lines;
  size_t begin = 0;
  while (lines.size() < limit) {
    const size_t end = rest_.find('\n', begin);
    if (end != rest_.npos) {
      lines.push_back(rest_.substr(begin, end - begin));
      begin = end + 1;
      continue;
    }
    if (rest_.size() - begin > kLongestLine) {
      lines.push_back(rest_.substr(begin));
      begin = rest_.size();
      continue;
    }
    rest_.erase(0, begin);
    begin = 0;
    if (!ReadMore()) break;
  }
  rest_.erase(0, begin);
  return lines;
}

}  // namespace muster
