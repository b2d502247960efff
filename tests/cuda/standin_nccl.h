// What tests may tell the NCCL of standin_nccl.cc, after it has been loaded, by looking for these functions in it. What processes are
// told comes by environment: MUSTER_STANDIN_NCCL_VERSION (23203), MUSTER_STANDIN_NCCL_HANG_FILE (ncclCommAbort does not return in the process whose id
// that file has).
//
// Threading: safe from any thread.
#pragma once

extern "C" {

// From now on communicators are in progress for so long: when they are made, and at the first sum.
void standin_nccl_slow(int milliseconds);
// Communicators that are made never get ready, as if a rank were missing.
void standin_nccl_never_ready(int never);
// All communicators of this process have failed, as after a broken cable: an ncclResult_t.
void standin_nccl_fail(int result);
// ncclCommAbort does not return.
void standin_nccl_abort_hangs(int hangs);
// Whether somebody has asked for encryption.
int standin_nccl_encrypted();
// Communicators of this process that have not been destroyed or aborted.
int standin_nccl_communicators();
}
