// FileText: a log file as a stream of text: its end or all of it, and then what is appended, also after the file has been
// replaced by a new one (log rotation). It hands out bytes as they are.
//
// Threading: none.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <optional>

#include "launcher/gateway/gateway_source.h"
#include "runtime/base/unique_fd.h"

namespace muster {

class FileText final : public TextStream {
 public:
  static constexpr uint64_t kMaxTailBytes = 4 << 20;  // looked through for the last lines

  // Begins at the last `tail` lines, or at the start of the file. It ends where the file ends now.
  // Errors: those of the system, kNotFound among them.
  static Result<std::unique_ptr<FileText>> Open(const std::filesystem::path& path,
                                                std::optional<uint64_t> tail);

  // It goes on until there is nothing new and `ended` says that nothing will come.
  void FollowUntil(std::function<bool()> ended) { ended_ = std::move(ended); }

  Piece Next() override;

 private:
  FileText(std::filesystem::path path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  Status FindStart(std::optional<uint64_t> tail);
  std::string Read(uint64_t limit);
  bool Replaced() const;
  std::string ReadOnInTheNextFile(uint64_t limit);

  const std::filesystem::path path_;
  UniqueFd fd_;
  ino_t inode_ = 0;
  uint64_t at_ = 0;   // offset of what comes next
  uint64_t end_ = 0;  // for who does not follow
  std::function<bool()> ended_;
};

}  // namespace muster
