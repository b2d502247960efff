// Our declarations of NCCL's functions, against NVIDIA's.
#include <gtest/gtest.h>
#include <nccl.h>

#include "collectives/nccl/library.h"
#include "tests/cuda/same_function.h"

namespace muster::nccl {
namespace {

#define COMPARE(ours, theirs) MUSTER_COMPARE(api.ours, theirs)

TEST(NcclApi, IsThatOfNvidiasHeader) {
  const Api api;
  COMPARE(get_version, ncclGetVersion);
  COMPARE(get_unique_id, ncclGetUniqueId);
  COMPARE(comm_init_rank_config, ncclCommInitRankConfig);
  COMPARE(comm_get_async_error, ncclCommGetAsyncError);
  COMPARE(comm_finalize, ncclCommFinalize);
  COMPARE(comm_destroy, ncclCommDestroy);
  COMPARE(comm_abort, ncclCommAbort);
  COMPARE(all_reduce, ncclAllReduce);
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 23, 0)
  COMPARE(comm_init_rank_scalable, ncclCommInitRankScalable);
#endif
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  COMPARE(comm_shrink, ncclCommShrink);
  EXPECT_EQ(kShrinkAbort, NCCL_SHRINK_ABORT);
#endif
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 32, 0)
  COMPARE(set_encryption, ncclSetEncryption);
#endif
}

TEST(NcclApi, HasTheNumbersOfNvidiasHeader) {
  EXPECT_EQ(kSuccess, ncclSuccess);
  EXPECT_EQ(kInProgress, ncclInProgress);
  EXPECT_EQ(kInt32, ncclInt32);
  EXPECT_EQ(kInt64, ncclInt64);
  EXPECT_EQ(kFloat32, ncclFloat32);
  EXPECT_EQ(kSum, ncclSum);
}

// A version takes the structures of older ones: theirs begins with ours.
TEST(NcclApi, HasTheStructuresOfNvidiasHeader) {
  EXPECT_EQ(sizeof(UniqueId), sizeof(ncclUniqueId));
  const Config ours;
  const ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;
  EXPECT_LE(sizeof ours, sizeof theirs);
  EXPECT_EQ(ours.magic, theirs.magic);
  EXPECT_EQ(ours.net_name, theirs.netName);
  EXPECT_EQ(ours.blocking, theirs.blocking);
  EXPECT_EQ(offsetof(Config, blocking), offsetof(ncclConfig_t, blocking));
  EXPECT_EQ(offsetof(Config, cga_cluster_size), offsetof(ncclConfig_t, cgaClusterSize));
  EXPECT_EQ(offsetof(Config, min_ctas), offsetof(ncclConfig_t, minCTAs));
  EXPECT_EQ(offsetof(Config, max_ctas), offsetof(ncclConfig_t, maxCTAs));
  EXPECT_EQ(offsetof(Config, net_name), offsetof(ncclConfig_t, netName));
  EXPECT_EQ(offsetof(Config, split_share), offsetof(ncclConfig_t, splitShare));
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 32, 0)
  EXPECT_EQ(sizeof(EncryptionConfig), sizeof(ncclEncryptionConfig_t));
  EXPECT_EQ(EncryptionConfig().magic, NCCL_API_MAGIC);
  EXPECT_EQ(EncryptionConfig().mode, NCCL_ENCRYPTION_MODE_PSK);
  EXPECT_EQ(offsetof(EncryptionConfig, mode), offsetof(ncclEncryptionConfig_t, mode));
  EXPECT_EQ(offsetof(EncryptionConfig, key), offsetof(ncclEncryptionConfig_t, psk));
#endif
}

}  // namespace
}  // namespace muster::nccl
