#include "launcher/platform/kubernetes/names.h"

#include <fmt/format.h>

#include <span>

#include "runtime/base/check.h"
#include "runtime/base/hash.h"

namespace muster::kubernetes {
namespace {

// A pod's name becomes its host name, a DNS label of 63 characters: job, 5 digits of the run, pool, 10 of the serial, 3 dashes.
constexpr size_t kJobPart = 25;
constexpr size_t kPoolPart = 20;
constexpr size_t kRunDigits = 5;
constexpr size_t kHashDigits = 8;

// `name` if it fits, else its beginning and a hash of all of it: equal only for equal names.
std::string Shortened(const std::string& name, size_t limit) {
  if (name.size() <= limit) return name;
  std::string begin = name.substr(0, limit - kHashDigits - 1);
  while (begin.ends_with('-')) begin.pop_back();
  const std::string hash = HashBytes(std::as_bytes(std::span(name))).ToHex();
  return begin + "-" + hash.substr(0, kHashDigits);
}

}  // namespace

std::string RunLabel(const JobSpec& spec) { return spec.id.substr(0, 12); }

std::string RunName(const JobSpec& spec) {
  const bool letter = spec.name[0] >= 'a' && spec.name[0] <= 'z';
  return fmt::format("{}-{}", Shortened(letter ? spec.name : "m-" + spec.name, kJobPart),
                     spec.id.substr(0, kRunDigits));
}

std::string CoordinatorName(const JobSpec& spec) { return RunName(spec) + "-coordinator"; }

std::string WorkerName(const JobSpec& spec, const std::string& pool, int64_t serial) {
  MUSTER_CHECK(serial >= 0 && serial <= kMaxSerial);
  return fmt::format("{}-{}-{}", RunName(spec), PoolPart(pool), serial);
}

std::string PoolPart(const std::string& pool) { return Shortened(pool, kPoolPart); }

std::vector<std::string> SlotsOfPod(const std::string& pool, int64_t serial, int devices) {
  if (devices == 1) return {fmt::format("{}-{}", pool, serial)};
  std::vector<std::string> slots;
  for (int device = 0; device < devices; ++device) {
    slots.push_back(fmt::format("{}-{}-{}", pool, serial, device));
  }
  return slots;
}

}  // namespace muster::kubernetes
