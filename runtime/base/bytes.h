// A value as the bytes that it is in memory, for what travels between processes of one build.
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

namespace muster {

template <typename T>
  requires std::is_trivially_copyable_v<T>
std::span<const std::byte> BytesOf(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

template <typename T>
  requires std::is_trivially_copyable_v<T>
std::span<std::byte> WritableBytesOf(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

}  // namespace muster
