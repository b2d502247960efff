#include "runtime/base/pause.h"

#include <condition_variable>
#include <mutex>

namespace muster {

bool PauseFor(Duration time, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, time, [] { return false; });
  return !stop.stop_requested();
}

}  // namespace muster
