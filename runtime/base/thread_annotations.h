// Thread annotations: say in the code which lock guards what, so that clang checks it
// (-Wthread-safety, in `make lint`). Under other compilers they are nothing.
//
// libstdc++'s std::mutex carries no annotations, so a guarded field needs the Mutex below. To wait
// on one, use std::condition_variable_any with the Mutex itself.
//
//   mutable Mutex mutex_;
//   std::map<int, Peer> peers_ GUARDED_BY(mutex_);
//   void Drop(int rank) REQUIRES(mutex_);       // the caller holds it
//   void Close() EXCLUDES(mutex_);              // the caller must not hold it
//
// Threading: a Mutex is what others are guarded with; a MutexLock belongs to the scope that
// declares it.
#pragma once

#include <mutex>

// Comes with gRPC, and defines three of the names below as well, to the same, without asking whether they are there.
#if __has_include(<absl/base/thread_annotations.h>)
#include <absl/base/thread_annotations.h>
#endif

#if defined(__clang__)
#define MUSTER_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define MUSTER_THREAD_ATTRIBUTE(x)
#endif

#define CAPABILITY(x) MUSTER_THREAD_ATTRIBUTE(capability(x))
#define SCOPED_CAPABILITY MUSTER_THREAD_ATTRIBUTE(scoped_lockable)
#ifndef GUARDED_BY
#define GUARDED_BY(x) MUSTER_THREAD_ATTRIBUTE(guarded_by(x))
#define PT_GUARDED_BY(x) MUSTER_THREAD_ATTRIBUTE(pt_guarded_by(x))
#define NO_THREAD_SAFETY_ANALYSIS MUSTER_THREAD_ATTRIBUTE(no_thread_safety_analysis)
#endif
#define REQUIRES(...) MUSTER_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) MUSTER_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) MUSTER_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define RELEASE(...) MUSTER_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))

namespace muster {

class CAPABILITY("mutex") Mutex {
 public:
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

// Holds a Mutex until the end of the scope.
class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace muster
