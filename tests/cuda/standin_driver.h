// What tests may tell the driver of standin_driver.cc, after it has been loaded, by looking for these functions in it. What processes
// are told comes by environment: MUSTER_STANDIN_GPUS (1; 0: the driver finds none), MUSTER_STANDIN_CUDA_VERSION (13000),
// MUSTER_STANDIN_SICK (the GPU whose memory forgets; -1), MUSTER_STANDIN_FAIL_FILE (the device fails for good in the process whose id
// that file has), MUSTER_STANDIN_PTX (1: kernels are the PTX in their images, not the same programs compiled for the CPU).
//
// Threading: safe from any thread.
#pragma once

#include <cstddef>

struct CUstream_st;

extern "C" {

// Streams stop where they are, or before they copy to the host, until they are let go: work is in progress for as long as a test likes.
enum StandinHold { kStandinHoldNothing, kStandinHoldAll, kStandinHoldCopiesOut };
void standin_hold(int hold);
// The next thing that a stream does fails with this error, and everything after it, as after an illegal access.
void standin_fail(int code);
// The next time that this kernel runs, one bit of what it writes is wrong.
void standin_spoil(const char* kernel);
// Queues work of another library, as the stand-in for NCCL does.
int standin_queue(CUstream_st* stream, void (*act)(void*), void* with);
// Of the device, of this process.
size_t standin_memory_in_use();
}
