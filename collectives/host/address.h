// Address: how peers reach a host backend, as text "ip:port/boot-id/abstract-name".
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/base/status.h"

namespace muster::host {

struct Address {
  std::string ip;
  uint16_t port = 0;
  std::string boot_id;        // the machine since its last boot; containers on it share it
  std::string abstract_name;  // of the Unix socket; empty if the process wants no shared memory

  // IPv6 addresses stand in brackets: "[::1]:4000/...".
  std::string ToString() const;

  // Errors: kInvalidArgument, quoting the text.
  static Result<Address> Parse(std::string_view text);
};

// This machine's boot id; empty where the kernel does not tell.
std::string ReadBootId();

}  // namespace muster::host
