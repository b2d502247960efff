// launcher: one binary for everything around a training job. What it can do is in verbs/verbs.cc.
#include <csignal>
#include <string>
#include <vector>

#include "launcher/process/signals.h"
#include "launcher/verbs/verb.h"

int main(int argc, char** argv) {
  muster::FillStandardDescriptors();
  // Output that nobody reads any more is no reason to die.
  std::signal(SIGPIPE, SIG_IGN);
  return muster::RunLauncher({argv + (argc > 0 ? 1 : 0), argv + argc});
}
