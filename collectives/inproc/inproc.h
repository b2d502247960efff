// The inproc backend: ranks are threads of one process. The reference that the other backends are compared with, and the
// transport of a program that trains alone.
//
// Threading: a fabric and its backends are safe from any thread. Ownership: backends keep their fabric alive.
#pragma once

#include <memory>
#include <string>

#include "collectives/communicator.h"

namespace muster {

// The "network" that inproc backends meet in.
class InprocFabric;
std::shared_ptr<InprocFabric> CreateInprocFabric();

// A backend in `fabric` under the name `address`, which must be unique in it.
std::unique_ptr<Backend> CreateInprocBackend(std::shared_ptr<InprocFabric> fabric,
                                             std::string address);

}  // namespace muster
