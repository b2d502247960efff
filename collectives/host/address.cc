#include "collectives/host/address.h"

#include <algorithm>
#include <charconv>

#include "collectives/host/socket.h"
#include "runtime/base/endpoint.h"
#include "runtime/base/files.h"

namespace muster::host {
namespace {

constexpr size_t kMaxPart = 100;  // an abstract name has at most 107 bytes

bool IsToken(std::string_view text) {
  return text.size() <= kMaxPart && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  c == '-' || c == '_' || c == '.';
         });
}

// Splits "ip:port" or "[ip]:port".
bool ParseEndpoint(std::string_view text, Address& address) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  std::string_view ip = text.substr(0, colon);
  if (ip.size() >= 2 && ip.front() == '[' && ip.back() == ']') ip = ip.substr(1, ip.size() - 2);
  const std::string_view port = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  address.ip = ip;
  return error == std::errc() && end == port.data() + port.size() && address.port != 0 &&
         TcpAddress(address.ip, address.port).has_value();
}

}  // namespace

std::string Address::ToString() const {
  return fmt::format("{}/{}/{}", JoinHostPort(ip, port), boot_id, abstract_name);
}

Result<Address> Address::Parse(std::string_view text) {
  const size_t first = text.find('/');
  const size_t second = first == std::string_view::npos ? first : text.find('/', first + 1);
  Address address;
  if (second != std::string_view::npos && ParseEndpoint(text.substr(0, first), address)) {
    address.boot_id = text.substr(first + 1, second - first - 1);
    address.abstract_name = text.substr(second + 1);
    if (IsToken(address.boot_id) && IsToken(address.abstract_name)) return address;
  }
  return Err(Code::kInvalidArgument, "'{}' is not an address of a host backend ({})",
             text.substr(0, 128), "ip:port/boot-id/abstract-name");
}

std::string ReadBootId() {
  const auto text = ReadFile("/proc/sys/kernel/random/boot_id", 128);
  if (!text) return {};
  return text->substr(0, text->find('\n'));
}

}  // namespace muster::host
