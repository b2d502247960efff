#include "runtime/base/status.h"

#include <system_error>

namespace muster {

std::string_view CodeName(Code code) {
  switch (code) {
    case Code::kCancelled:
      return "cancelled";
    case Code::kUnknown:
      return "unknown";
    case Code::kInvalidArgument:
      return "invalid argument";
    case Code::kDeadlineExceeded:
      return "deadline exceeded";
    case Code::kNotFound:
      return "not found";
    case Code::kAlreadyExists:
      return "already exists";
    case Code::kPermissionDenied:
      return "permission denied";
    case Code::kResourceExhausted:
      return "resource exhausted";
    case Code::kFailedPrecondition:
      return "failed precondition";
    case Code::kAborted:
      return "aborted";
    case Code::kOutOfRange:
      return "out of range";
    case Code::kUnimplemented:
      return "unimplemented";
    case Code::kInternal:
      return "internal";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kDataLoss:
      return "data loss";
    case Code::kUnauthenticated:
      return "unauthenticated";
  }
  return "unknown";
}

std::string Error::ToString() const {
  return hint.empty() ? message : fmt::format("{} ({})", message, hint);
}

tl::unexpected<Error> ErrnoError(int errno_value, std::string_view what) {
  Code code = Code::kUnknown;
  switch (errno_value) {
    case ENOENT:
      code = Code::kNotFound;
      break;
    case EEXIST:
      code = Code::kAlreadyExists;
      break;
    case EACCES:
    case EPERM:
      code = Code::kPermissionDenied;
      break;
    case ENOSPC:
    case EMFILE:
    case ENOMEM:
      code = Code::kResourceExhausted;
      break;
    case EPIPE:
    case ECONNRESET:
    case ECONNREFUSED:
      code = Code::kUnavailable;
      break;
    default:
      break;
  }
  return Err(code, "{}: {}", what, std::generic_category().message(errno_value));
}

}  // namespace muster
