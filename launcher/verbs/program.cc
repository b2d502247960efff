#include "launcher/verbs/program.h"

#include <elf.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <vector>

#include "launcher/job/suggest.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

#if defined(__x86_64__)
constexpr int kThisMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr int kThisMachine = EM_AARCH64;
#else
constexpr int kThisMachine = EM_NONE;
#endif

bool IsExecutableFile(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
}

std::vector<fs::path> Folders(const std::string& search_path) {
  std::vector<fs::path> folders;
  size_t begin = 0;
  while (begin <= search_path.size()) {
    const size_t end = std::min(search_path.find(':', begin), search_path.size());
    // An empty part is the current folder, as in execvp(3).
    folders.emplace_back(end > begin ? search_path.substr(begin, end - begin) : ".");
    begin = end + 1;
  }
  return folders;
}

std::vector<std::string> ExecutablesIn(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (names.size() >= 10'000) break;
    if (IsExecutableFile(entry.path())) names.push_back(entry.path().filename().string());
  }
  return names;
}

tl::unexpected<Error> NoSuchFile(const std::string& word) {
  const fs::path path(word);
  const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  auto error = Err(Code::kNotFound, "{}: no such file", word);
  if (const auto near = Nearest(path.filename().string(), ExecutablesIn(folder))) {
    return WithHint(std::move(error), fmt::format("did you mean {}?", (folder / *near).string()));
  }
  return WithHint(std::move(error),
                  "build the program first, or give its path as seen from this folder");
}

tl::unexpected<Error> NotInPath(const std::string& word, const fs::path& own_folder) {
  auto error =
      Err(Code::kNotFound, "{}: no such program in PATH or in {}", word, own_folder.string());
  std::error_code ignored;
  if (fs::exists(word, ignored)) {
    return WithHint(std::move(error), fmt::format("a file of that name is here: ./{}", word));
  }
  for (const fs::path& folder : {fs::path("."), own_folder}) {
    if (const auto near = Nearest(word, ExecutablesIn(folder))) {
      const std::string meant = folder == "." ? "./" + *near : *near;
      return WithHint(std::move(error), fmt::format("did you mean {}?", meant));
    }
  }
  return WithHint(std::move(error), "build it first, or give its path, for example ./" + word);
}

Status CheckScript(const fs::path& path, const std::string& first_line) {
  const size_t begin = first_line.find_first_not_of(" \t", 2);
  if (begin == first_line.npos) return {};
  const std::string interpreter =
      first_line.substr(begin, first_line.find_first_of(" \t\r", begin) - begin);
  if (::access(interpreter.c_str(), X_OK) == 0) return {};
  return WithHint(Err(Code::kNotFound, "{}: its first line names {}, which is not there",
                      path.string(), interpreter),
                  "install that interpreter or correct the line");
}

// What the kernel would only say when the first worker is started.
Status CheckFormat(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string start(sizeof(Elf64_Ehdr), '\0');
  file.read(start.data(), static_cast<std::streamsize>(start.size()));
  start.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  if (!file.is_open()) return {};  // may be executed without being readable
  if (start.starts_with("#!")) {
    file.clear();
    file.seekg(0);
    std::string line;
    std::getline(file, line);
    return CheckScript(path, line);
  }
  if (!start.starts_with(ELFMAG)) {
    return WithHint(Err(Code::kInvalidArgument,
                        "{} is executable but no program: it is neither an ELF file nor a script "
                        "that begins with #!",
                        path.string()),
                    "give the compiled program, not its source or data");
  }
  Elf64_Ehdr header = {};
  std::memcpy(&header, start.data(), start.size());
  if (kThisMachine != EM_NONE && header.e_machine != kThisMachine) {
    return WithHint(
        Err(Code::kInvalidArgument, "{} is built for another kind of machine", path.string()),
        "build it on this machine");
  }
  return {};
}

Status CheckFile(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    return WithHint(Err(Code::kInvalidArgument, "{} is a folder, not a program", path.string()),
                    "give the path of the program in it");
  }
  if (!fs::is_regular_file(path, error)) {
    return Err(Code::kInvalidArgument, "{} is not a regular file", path.string());
  }
  if (::access(path.c_str(), X_OK) != 0) {
    return WithHint(Err(Code::kPermissionDenied, "{} is not executable", path.string()),
                    fmt::format("if it is a program: chmod +x {}", path.string()));
  }
  return CheckFormat(path);
}

}  // namespace

Result<fs::path> FindProgram(const std::string& word, const std::string& search_path,
                             const fs::path& own_folder) {
  if (word.empty()) return Err(Code::kInvalidArgument, "the program's name is empty");
  std::error_code error;
  if (word.find('/') != word.npos) {
    const fs::path path = fs::absolute(word, error).lexically_normal();
    if (!fs::exists(path, error)) return NoSuchFile(word);
    MUSTER_TRY(CheckFile(path));
    return path;
  }
  std::vector<fs::path> folders = Folders(search_path);
  folders.push_back(own_folder);
  for (const fs::path& folder : folders) {
    const fs::path path = fs::absolute(folder / word, error).lexically_normal();
    if (!IsExecutableFile(path)) continue;
    MUSTER_TRY(CheckFormat(path));
    return path;
  }
  return NotInPath(word, own_folder);
}

}  // namespace muster
