// Follow: reads a file that somebody else appends to, line by line, across its replacement by a new one (log rotation).
//
// Threading: none.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/base/unique_fd.h"

namespace muster {

class LineFollower {
 public:
  // The file need not exist yet. With `with_older`, `path`.1 is read first.
  LineFollower(std::filesystem::path path, bool with_older);

  // At most `limit` whole lines that have appeared since the last call, without their line breaks. Does not wait.
  std::vector<std::string> Read(size_t limit);

  // What stands behind the last line break: for a file that nobody appends to any more.
  std::string TakeRest() { return std::exchange(rest_, {}); }

 private:
  bool ReadMore();
  bool OpenNext();

  const std::filesystem::path path_;
  UniqueFd fd_;
  ino_t inode_ = 0;
  std::string rest_;  // read, not handed out yet
};

}  // namespace muster
