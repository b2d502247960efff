#include <algorithm>
#include <cxxopts.hpp>

#include "launcher/job/suggest.h"
#include "launcher/verbs/text.h"
#include "launcher/verbs/verb.h"

namespace muster {
namespace {

// The option that `token` ("--workers=3", "-f") names, or null.
const OptionSpec* FindOption(const Verb& verb, const std::string& token) {
  for (const OptionSpec& option : verb.options) {
    const std::string name = token.substr(0, token.find('='));
    if (name == "--" + option.name) return &option;
    if (option.letter != 0 && token.substr(0, 2) == std::string{'-', option.letter}) return &option;
  }
  return nullptr;
}

bool IsOption(const std::string& token) { return token.size() > 1 && token[0] == '-'; }

// Whether the value of `option` is the next token.
bool TakesNext(const OptionSpec& option, const std::string& token) {
  if (option.argument.empty() || token.find('=') != token.npos) return false;
  return token.starts_with("--") || token.size() == 2;
}

tl::unexpected<Error> UnknownOption(const Verb& verb, const std::string& token) {
  std::vector<std::string> names;
  for (const OptionSpec& option : verb.options) names.push_back("--" + option.name);
  const std::string name = token.substr(0, token.find('='));
  const auto nearest = Nearest(name, names);
  auto error = Err(Code::kInvalidArgument, "there is no option {}", name);
  return WithHint(std::move(error),
                  nearest ? fmt::format("did you mean {}?", *nearest)
                          : fmt::format("launcher {} --help lists the options", verb.name));
}

// `launcher run digits --steps 3`: says where the `--` belongs.
tl::unexpected<Error> MissingDashes(const Verb& verb, const std::vector<std::string>& arguments,
                                    size_t program_at) {
  std::vector<std::string> corrected{"launcher", verb.name};
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (i == program_at) corrected.push_back("--");
    if (arguments[i] != "--") corrected.push_back(arguments[i]);
  }
  return WithHint(
      Err(Code::kInvalidArgument, "the program must come after `--`, and nothing else before it"),
      "try: " + ShellQuote(corrected));
}

// Checks what cxxopts would report in its own words, so that every message can say what to do.
Status CheckTokens(const Verb& verb, const std::vector<std::string>& arguments, size_t end) {
  size_t operands = 0;
  for (size_t i = 0; i < end; ++i) {
    const std::string& token = arguments[i];
    if (!IsOption(token)) {
      if (verb.takes_program) return MissingDashes(verb, arguments, i);
      if (++operands > verb.max_operands) {
        return Err(Code::kInvalidArgument, "\"{}\" is one argument too many; usage: launcher {} {}",
                   token, verb.name, verb.usage);
      }
      continue;
    }
    const OptionSpec* option = FindOption(verb, token);
    if (option == nullptr) return UnknownOption(verb, token);
    if (option->argument.empty() && token.find('=') != token.npos) {
      return Err(Code::kInvalidArgument, "--{} takes no value", option->name);
    }
    if (!TakesNext(*option, token)) continue;
    if (++i >= end) {
      return Err(Code::kInvalidArgument, "--{} needs a value: --{} {}", option->name, option->name,
                 option->argument);
    }
  }
  return {};
}

void Declare(const Verb& verb, cxxopts::Options& options) {
  auto add = options.add_options();
  for (const OptionSpec& option : verb.options) {
    const std::string letter = option.letter != 0 ? std::string{option.letter, ','} : "";
    if (option.argument.empty()) {
      add(letter + option.name, option.help);
    } else {
      add(letter + option.name, option.help, cxxopts::value<std::string>(), option.argument);
    }
  }
}

}  // namespace

Result<Invocation> ParseInvocation(const Verb& verb, const std::vector<std::string>& arguments) {
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  MUSTER_TRY(CheckTokens(verb, arguments, static_cast<size_t>(dashes - arguments.begin())));
  Invocation result;
  result.has_program = dashes != arguments.end();
  if (result.has_program) result.program.assign(dashes + 1, arguments.end());
  if (result.has_program && !verb.takes_program) {
    return Err(Code::kInvalidArgument, "{} takes no program; usage: launcher {} {}", verb.name,
               verb.name, verb.usage);
  }
  std::vector<const char*> argv{"launcher"};
  for (auto argument = arguments.begin(); argument != dashes; ++argument) {
    argv.push_back(argument->c_str());
  }
  try {
    cxxopts::Options options("launcher " + verb.name);
    Declare(verb, options);
    const auto parsed = options.parse(static_cast<int>(argv.size()), argv.data());
    result.operands = parsed.unmatched();
    for (const auto& value : parsed.arguments()) {
      result.values_[value.key()] = value.value();
      result.repeated_[value.key()].push_back(value.value());
    }
  } catch (const cxxopts::exceptions::exception& error) {
    return WithHint(Err(Code::kInvalidArgument, "{}", error.what()),
                    fmt::format("launcher {} --help lists the options", verb.name));
  }
  const std::string output = result.Get("output");
  if (result.Has("output") && output != "json" && output != "text") {
    return Err(Code::kInvalidArgument, "--output is \"{}\", it must be json or text", output);
  }
  return result;
}

std::string VerbHelp(const Verb& verb) {
  cxxopts::Options options("launcher " + verb.name, verb.summary + "\n");
  options.custom_help(verb.usage);
  options.positional_help("");
  options.set_width(100);
  Declare(verb, options);
  return options.help() + "\n" + verb.details;
}

std::string Overview() {
  std::string text =
      "launcher starts, watches and resizes Muster training jobs.\n\n"
      "Usage: launcher VERB [OPTIONS]\n\nVerbs:\n";
  for (const Verb& verb : Verbs()) {
    if (!verb.hidden) text += fmt::format("  {:<9}{}\n", verb.name, verb.summary);
  }
  return text +
         "\nA first job:     launcher run --workers 4 -- digits --steps 400\n"
         "While it runs:   launcher status, launcher events -f, launcher resize 2\n"
         "More of a verb:  launcher VERB --help\n";
}

int ExitCodeOf(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
    case Code::kNotFound:
    case Code::kAlreadyExists:
    case Code::kFailedPrecondition:
    case Code::kOutOfRange:
    case Code::kPermissionDenied:
    case Code::kUnimplemented:
      return 2;
    default:
      return 1;
  }
}

}  // namespace muster
