#include "launcher/process/signals.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace muster {

namespace {

sigset_t SetOf(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) ::sigaddset(&set, signal);
  return set;
}

}  // namespace

void BlockSignals(std::initializer_list<int> signals) {
  const sigset_t set = SetOf(signals);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

void UnblockSignals(std::initializer_list<int> signals) {
  const sigset_t set = SetOf(signals);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

Result<SignalFd> SignalFd::Create(std::initializer_list<int> signals) {
  ::signal(SIGPIPE, SIG_IGN);
  SignalFd result;
  result.signals_ = SetOf(signals);
  BlockSignals(signals);
  result.fd_.reset(::signalfd(-1, &result.signals_, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!result.fd_) return ErrnoError(errno, "cannot make a signalfd");
  return result;
}

std::vector<int> SignalFd::Read() const {
  std::vector<int> signals;
  signalfd_siginfo info;
  while (::read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    signals.push_back(static_cast<int>(info.ssi_signo));
  }
  return signals;
}

void SignalFd::Release() { ::pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr); }

Result<WakeFd> WakeFd::Create() {
  WakeFd result;
  result.fd_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!result.fd_) return ErrnoError(errno, "cannot make an eventfd");
  return result;
}

void WakeFd::Notify() const {
  const uint64_t one = 1;
  const ssize_t ignored = ::write(fd_.get(), &one, sizeof one);
  (void)ignored;  // full means that a wake-up is pending already
}

void WakeFd::Clear() const {
  uint64_t count = 0;
  const ssize_t ignored = ::read(fd_.get(), &count, sizeof count);
  (void)ignored;
}

void FillStandardDescriptors() {
  int fd;
  do {
    fd = ::open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= 2);
  if (fd > 2) ::close(fd);
}

}  // namespace muster
