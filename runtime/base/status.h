// Status: how operating errors travel. Result<T> holds a value or an Error; Status is Result<void>.
//
// Threading: plain values, no shared state.
// Operating errors (a peer died, a file is bad) are returned and must be looked at; programmer errors abort
// through MUSTER_CHECK (check.h). No exception crosses a folder.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace muster {

// The closed list of error codes, with the meaning and the numbers of gRPC's status codes.
enum class Code {
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

// The name of a code as users see it, for example "deadline exceeded".
std::string_view CodeName(Code code);

struct [[nodiscard]] Error {
  Code code = Code::kUnknown;
  std::string message;  // what failed, with which values
  std::string hint;     // what to look at or do next; may be empty

  // "message (hint)" for a person.
  std::string ToString() const;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

// An error to return from a function whose result is any Result<T>.
template <typename... Args>
tl::unexpected<Error> Err(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...), {}});
}

// The same error with a hint for the user.
inline tl::unexpected<Error> WithHint(tl::unexpected<Error> error, std::string hint) {
  error.value().hint = std::move(hint);
  return error;
}

// An error that names a failed system call: `what` and the text of errno value `errno_value`.
tl::unexpected<Error> ErrnoError(int errno_value, std::string_view what);

}  // namespace muster

#define MUSTER_CONCAT_INNER(a, b) a##b
#define MUSTER_CONCAT(a, b) MUSTER_CONCAT_INNER(a, b)

// Returns the error of `expression` (a Status or Result) from the calling function, if it has one.
#define MUSTER_TRY(expression)                                                                    \
  do {                                                                                            \
    auto muster_status = (expression);                                                            \
    if (!muster_status) return tl::unexpected<::muster::Error>(std::move(muster_status.error())); \
  } while (false)

// Declares `declaration` from the value of `expression`, or returns its error.
#define MUSTER_ASSIGN(declaration, expression)                       \
  auto MUSTER_CONCAT(muster_result_, __LINE__) = (expression);       \
  if (!MUSTER_CONCAT(muster_result_, __LINE__))                      \
    return tl::unexpected<::muster::Error>(                          \
        std::move(MUSTER_CONCAT(muster_result_, __LINE__).error())); \
  declaration = std::move(*MUSTER_CONCAT(muster_result_, __LINE__))
