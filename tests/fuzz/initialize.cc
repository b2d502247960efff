// What libFuzzer calls first: nothing is logged, because what is refused would be, millions of times.
#include "runtime/base/log.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  muster::log::set_level(muster::log::level::off);
  return 0;
}
