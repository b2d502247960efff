// JoinHostPort: writes an address of the network as everybody reads it.
//
// Threading: a pure function.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace muster {

// "HOST:PORT", with brackets around an IPv6 address that has none (RFC 3986, section 3.2.2). `port` is a number or its text.
template <typename Port>
std::string JoinHostPort(std::string_view host, const Port& port) {
  const bool bare_ipv6 = host.find(':') != std::string_view::npos && !host.starts_with('[');
  return bare_ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

}  // namespace muster
