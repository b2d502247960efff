#include "tests/cuda/ptx.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <sstream>
#include <utility>

#include "runtime/cuda/block.h"
#include "tests/cuda/ptx_instructions.h"
#include "tests/cuda/ptx_values.h"

namespace muster::ptx {

namespace {

constexpr int kWarp = 32;
constexpr std::byte kGarbage{
    0xa5};  // what registers and shared memory hold before they are written
constexpr size_t kMostInstructions = 100'000'000;  // of a thread between barriers

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(std::string(text)) {}

  std::map<std::string, Kernel> Read() {
    for (std::string line; std::getline(text_, line);) {
      line = Trimmed(line.substr(0, line.find("//")));
      if (!line.empty()) ReadLine(line);
    }
    return std::move(kernels_);
  }

 private:
  static std::string Trimmed(const std::string& text) {
    const size_t begin = text.find_first_not_of(" \t\r");
    if (begin == std::string::npos) return "";
    return text.substr(begin, text.find_last_not_of(" \t\r") + 1 - begin);
  }

  static std::vector<std::string> Split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, separator);) parts.push_back(Trimmed(part));
    return parts;
  }

  // N of "name[N]" and "name<N>", and the name.
  static std::pair<std::string, size_t> Counted(const std::string& text) {
    const size_t bracket = text.find_first_of("[<");
    if (bracket == std::string::npos) return {text, 0};
    return {text.substr(0, bracket), std::stoul(text.substr(bracket + 1))};
  }

  void ReadLine(const std::string& line) {
    std::istringstream words(line);
    std::vector<std::string> word;
    for (std::string one; words >> one;) word.push_back(one);
    if (line == "{") return scopes_.emplace_back(), void();
    if (line == "}") return EndScope();
    if (word.front() == ".visible" && word.at(1) == ".entry") return BeginKernel(word.at(2));
    if (word.front() == ".param") {
      const auto [name, bytes] = Counted(word.back());
      symbols_[name] = 0;
      kernel_.argument_bytes = bytes;
    } else if (word.front() == ".shared") {
      const auto [name, bytes] = Counted(word.back());
      // One after the other in one piece of memory, aligned more than any needs.
      symbols_[name] = shared_end_;
      shared_end_ += (bytes + 15) / 16 * 16;
    } else if (word.front() == ".reg") {
      const auto [name, count] = Counted(word.back().substr(0, word.back().find(';')));
      scopes_.back()[name] = {kernel_.registers, count};
      kernel_.registers += std::max<size_t>(count, 1);
    } else if (line.back() == ':') {
      labels_[line.substr(0, line.size() - 1)] = kernel_.instructions.size();
    } else if (line.front() != '.' && line != ")") {
      kernel_.instructions.push_back(Decode(line.substr(0, line.find(';'))));
    }
  }

  void BeginKernel(const std::string& name) {
    kernel_ = {};
    kernel_.name = name.substr(0, name.find('('));
    labels_.clear();
  }

  void EndScope() {
    scopes_.pop_back();
    if (!scopes_.empty()) return;
    for (Instruction& instruction : kernel_.instructions) {
      if (instruction.kind == Instruction::Kind::kBranch) {
        instruction.target = labels_.at(instruction.label);
      }
    }
    kernel_.shared_bytes = shared_end_;
    kernels_[kernel_.name] = std::move(kernel_);
  }

  size_t Register(const std::string& name) const {
    const size_t digits = name.find_first_of("0123456789");
    const std::string family = name.substr(0, digits);
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto one = scope->find(name); one != scope->end()) return one->second.first;
      const auto many = scope->find(family);
      if (many != scope->end()) return many->second.first + std::stoul(name.substr(digits));
    }
    Fail("no register that is known", name);
  }

  // The value of an operand: a register, a number, or the place of a variable.
  Source Value(const std::string& text) const {
    if (text == "%tid.x") return [](const Thread& thread) { return thread.index; };
    if (text == "%ctaid.x") return [](const Thread& thread) { return thread.block; };
    if (text.front() == '%') {
      return [index = Register(text)](const Thread& thread) { return thread.registers[index]; };
    }
    uint64_t constant = 0;
    if (text.starts_with("0f") || text.starts_with("0d")) {
      constant = std::stoull(text.substr(2), nullptr, 16);
    } else if (const auto symbol = symbols_.find(text); symbol != symbols_.end()) {
      constant = symbol->second;
    } else if (text.front() == '-') {
      constant = static_cast<uint64_t>(std::stoll(text));
    } else {
      constant = std::stoull(text, nullptr, 0);
    }
    return [constant](const Thread&) { return constant; };
  }

  // The place that "[%rd1+8]" means in memory of this kind.
  std::function<std::byte*(const Thread&)> Place(const std::string& space,
                                                 const std::string& text) const {
    const std::string inner = text.substr(1, text.size() - 2);
    const size_t plus = inner.find('+');
    const int64_t offset = plus == std::string::npos ? 0 : std::stoll(inner.substr(plus + 1));
    const auto place = [base = Value(inner.substr(0, plus)), offset](const Thread& thread) {
      return base(thread) + static_cast<uint64_t>(offset);
    };
    if (space == "param") {
      return [place](const Thread& t) { return const_cast<std::byte*>(t.arguments) + place(t); };
    }
    if (space == "shared") {
      return [place](const Thread& t) { return t.shared + static_cast<uint32_t>(place(t)); };
    }
    if (space != "global") Fail("no memory that is known", space);
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    return [place](const Thread& t) { return reinterpret_cast<std::byte*>(place(t)); };
  }

  // The operands of "ld.param.v2.f32 {%f1, %f2}, [%rd1]": "%f1", "%f2", "[%rd1]".
  static std::vector<std::string> Operands(std::string text) {
    std::erase_if(text, [](char c) { return c == '{' || c == '}'; });
    return Split(text, ',');
  }

  Instruction Decode(std::string text) {
    Instruction instruction;
    instruction.text = text;
    if (text.front() == '@') {
      const size_t end = text.find_first_of(" \t");
      const bool unless = text[1] == '!';
      instruction.guard = [of = Value(text.substr(unless ? 2 : 1, end - (unless ? 2 : 1))),
                           unless](const Thread& thread) { return (of(thread) != 0) != unless; };
      text = Trimmed(text.substr(end));
    }
    const size_t end = std::min(text.find_first_of(" \t"), text.size());
    const std::string name = text.substr(0, end);
    const std::vector<std::string> operands = Operands(text.substr(end));
    if (name == "ret") {
      instruction.kind = Instruction::Kind::kEnd;
    } else if (name == "bra" || name == "bra.uni") {
      instruction.kind = Instruction::Kind::kBranch;
      instruction.label = operands.at(0);
    } else if (name.starts_with("bar.") || name.starts_with("redux.")) {
      instruction.kind = Instruction::Kind::kMeeting;
      instruction.meet = Meeting(name, operands, instruction.text);
    } else {
      instruction.act = Plain(Split(name, '.'), operands, instruction.text);
    }
    return instruction;
  }

  std::function<void(std::vector<Thread>&)> Meeting(const std::string& name,
                                                    const std::vector<std::string>& operands,
                                                    const std::string& text) const {
    if (name == "bar.sync") return [](std::vector<Thread>&) {};
    const size_t to = Register(operands.at(0));
    if (name == "bar.red.or.pred") {
      return [to, of = Value(operands.at(2))](std::vector<Thread>& threads) {
        const bool any = std::ranges::any_of(threads, [&](const Thread& t) { return of(t) != 0; });
        for (Thread& thread : threads) thread.registers[to] = any ? 1 : 0;
      };
    }
    if (name == "redux.sync.max.s32") {
      return [to, of = Value(operands.at(1))](std::vector<Thread>& threads) {
        for (auto first = threads.begin(); first != threads.end(); first += kWarp) {
          int32_t largest = std::numeric_limits<int32_t>::min();
          for (auto one = first; one != first + kWarp; ++one) {
            largest = std::max(largest, FromRegister<int32_t>(of(*one)));
          }
          for (auto one = first; one != first + kWarp; ++one) {
            one->registers[to] = ToRegister(largest);
          }
        }
      };
    }
    Fail("not known", text);
  }

  Act Plain(std::vector<std::string> name, const std::vector<std::string>& operands,
            const std::string& text) const {
    const std::string type = name.back();
    const std::string work = name.front();
    const std::string space = name.size() > 2 ? name[1] : "";
    const auto needs = [&](size_t count) {
      if (operands.size() != count) Fail("not known with so many operands", text);
    };
    if (work == "st") {
      needs(2);
      return Store(space, type, operands);
    }
    const size_t to = Register(operands.at(0));
    if (work == "ld") return Load(space, type, operands);
    if (work == "atom") return Atomic(name, to, operands, text);
    const Source first = Value(operands.at(1));
    if (work == "mov" && operands.size() == 3) {
      return Halves(text.back() == '}', {to, Register(operands[1]), Register(operands[2])});
    }
    if (work == "mov" || work == "cvta" || work == "cvt") needs(2);
    if (work == "mov" || work == "cvta") {
      return [to, first](Thread& thread) { thread.registers[to] = first(thread); };
    }
    if (work == "cvt") return Conversion(name, to, first);
    const Source second = operands.size() > 2 ? Value(operands[2]) : Source();
    const Source third = operands.size() > 3 ? Value(operands[3]) : Source();
    if (work == "mul" && name[1] == "wide") return WideProduct(type, to, first, second);
    if (name == std::vector<std::string>{"rcp", "approx", "ftz", "f64"})
      return Reciprocal(to, first);
    // To the nearest, and the lower half of a product: there is nothing else here.
    if (name.size() == 3 && (name[1] == "rn" || name[1] == "lo")) name.erase(name.begin() + 1);
    return WithType(type, [&]<typename T>(T) -> Act {
      if (work == "setp" && name.size() == 3) {
        return [to, first, second, compare = ComparisonOf<T>(name[1])](Thread& thread) {
          const T a = FromRegister<T>(first(thread));
          const T b = FromRegister<T>(second(thread));
          thread.registers[to] = compare(a, b) ? 1 : 0;
        };
      }
      if (name.size() != 2) Fail("not known", text);
      if (work == "selp") {
        return [to, first, second, third](Thread& thread) {
          thread.registers[to] = third(thread) != 0 ? first(thread) : second(thread);
        };
      }
      if (second == nullptr || work == "shl" || work == "shr") {
        return One<T>(work, to, first, second, text);
      }
      if (work == "mad" || work == "fma") {
        return ProductAndSum<T>(to, first, second, third, text);
      }
      needs(3);
      return [to, first, second, calculate = OperationOf<T>(work)](Thread& thread) {
        const T a = FromRegister<T>(first(thread));
        const T b = FromRegister<T>(second(thread));
        thread.registers[to] = ToRegister(calculate(a, b));
      };
    });
  }

  Act Load(const std::string& space, const std::string& type,
           const std::vector<std::string>& operands) const {
    const auto from = Place(space, operands.back());
    std::vector<size_t> to;
    for (size_t i = 0; i + 1 < operands.size(); ++i) to.push_back(Register(operands[i]));
    return WithType(type, [&]<typename T>(T) -> Act {
      return [from, to](Thread& thread) {
        for (size_t i = 0; i < to.size(); ++i) {
          T value;
          std::memcpy(&value, from(thread) + i * sizeof value, sizeof value);
          thread.registers[to[i]] = ToRegister(value);
        }
      };
    });
  }

  Act Store(const std::string& space, const std::string& type,
            const std::vector<std::string>& operands) const {
    const auto to = Place(space, operands.at(0));
    return WithType(type, [&]<typename T>(T) -> Act {
      return [to, of = Value(operands.at(1))](Thread& thread) {
        const T value = FromRegister<T>(of(thread));
        std::memcpy(to(thread), &value, sizeof value);
      };
    });
  }

  Act Atomic(const std::vector<std::string>& name, size_t to,
             const std::vector<std::string>& operands, const std::string& text) const {
    if (name.size() != 4 || name[3].substr(1) != "32") Fail("not known", text);
    const bool adds = name[2] == "add";
    if (!adds && name[2] != "or") Fail("not known", text);
    return [to, adds, place = Place(name[1], operands.at(1)),
            of = Value(operands.at(2))](Thread& thread) {
      std::atomic_ref word(*reinterpret_cast<uint32_t*>(place(thread)));
      const auto value = FromRegister<uint32_t>(of(thread));
      thread.registers[to] = adds ? word.fetch_add(value) : word.fetch_or(value);
    };
  }

  Act Conversion(const std::vector<std::string>& name, size_t to, const Source& of) const {
    const std::string rounding = name.size() == 4 ? name[1] : "";
    if (name.size() > 4 ||
        (name.size() == 4 && rounding != "rn" && rounding != "rni" && rounding != "rzi")) {
      Fail("no conversion that is known", name[1]);
    }
    return WithType(name[name.size() - 2], [&]<typename To>(To) {
      return WithType(name.back(), [&]<typename From>(From) -> Act {
        return [to, of, rounding](Thread& thread) {
          thread.registers[to] = ToRegister(Convert<To>(rounding, FromRegister<From>(of(thread))));
        };
      });
    });
  }

  std::istringstream text_;
  std::map<std::string, Kernel> kernels_;
  Kernel kernel_;  // being read
  std::map<std::string, uint64_t> symbols_;
  uint64_t shared_end_ = 0;
  // First register and number, 0 for one, of what is declared in this scope and those around it.
  std::vector<std::map<std::string, std::pair<size_t, size_t>>> scopes_;
  std::map<std::string, size_t> labels_;
};

// Until the thread comes to a barrier, or its end.
void Advance(const Kernel& kernel, Thread& thread) {
  for (size_t done = 0; done < kMostInstructions; ++done) {
    const Instruction& instruction = kernel.instructions.at(thread.next);
    const bool acts = !instruction.guard || instruction.guard(thread);
    switch (instruction.kind) {
      case Instruction::Kind::kPlain:
        if (acts) instruction.act(thread);
        ++thread.next;
        break;
      case Instruction::Kind::kBranch:
        thread.next = acts ? instruction.target : thread.next + 1;
        break;
      case Instruction::Kind::kEnd:
        if (acts) return;
        ++thread.next;
        break;
      case Instruction::Kind::kMeeting:
        if (!acts) Fail("not all threads do it", instruction.text);
        return;
    }
  }
  Fail("does not end", kernel.name);
}

}  // namespace

void Kernel::Run(size_t block, const void* arguments) const {
  std::vector<std::byte> shared(shared_bytes, kGarbage);
  uint64_t garbage = 0;
  std::memset(&garbage, static_cast<int>(kGarbage), sizeof garbage);
  std::vector<Thread> threads(cuda::Block::kThreads);
  for (size_t i = 0; i < threads.size(); ++i) {
    threads[i] = {std::vector<uint64_t>(registers, garbage),
                  0,
                  static_cast<uint32_t>(i),
                  static_cast<uint32_t>(block),
                  static_cast<const std::byte*>(arguments),
                  shared.data()};
  }
  for (bool forward = block % 2 == 0;; forward = !forward) {
    for (size_t i = 0; i < threads.size(); ++i) {
      Advance(*this, threads[forward ? i : threads.size() - 1 - i]);
    }
    const size_t at = threads.front().next;
    const Instruction& instruction = instructions.at(at);
    if (!std::ranges::all_of(threads, [at](const Thread& thread) { return thread.next == at; })) {
      Fail("not all threads come to it", instruction.text);
    }
    if (instruction.kind == Instruction::Kind::kEnd) return;
    instruction.meet(threads);
    for (Thread& thread : threads) ++thread.next;
  }
}

std::map<std::string, Kernel> Parse(std::string_view text) { return Reader(text).Read(); }

std::string_view TextIn(const void* image) {
  struct {
    uint32_t magic;
    uint16_t version;
    uint16_t header_bytes;
    uint64_t bytes;  // after it
  } header;
  constexpr uint32_t kMagic = 0xba55ed50;
  std::memcpy(&header, image, sizeof header.magic);
  if (header.magic != kMagic) return {};
  std::memcpy(&header, image, sizeof header);
  const std::string_view all(static_cast<const char*>(image) + header.header_bytes, header.bytes);
  const size_t begin = all.find(".version");
  if (begin == std::string_view::npos) return {};
  return all.substr(begin, all.find('\0', begin) - begin);
}

}  // namespace muster::ptx
