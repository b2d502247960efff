#include "launcher/bundle/chunk.h"

#include <openssl/evp.h>
#include <zstd.h>

#include "runtime/base/check.h"

namespace muster {
namespace {

constexpr int kLevel = 3;  // zstd's own default: some 300 MB/s, half of a program's size
constexpr size_t kHashDigits = 64;

}  // namespace

std::string Sha256(std::string_view data) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  MUSTER_CHECK(EVP_Digest(data.data(), data.size(), digest, &size, EVP_sha256(), nullptr) == 1);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

bool IsSha256(std::string_view text) {
  return text.size() == kHashDigits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::string CompressChunk(std::string_view raw) {
  MUSTER_CHECK(raw.size() <= kMaxChunkBytes);
  std::string compressed(ZSTD_compressBound(raw.size()), '\0');
  const size_t size =
      ZSTD_compress(compressed.data(), compressed.size(), raw.data(), raw.size(), kLevel);
  MUSTER_CHECK(ZSTD_isError(size) == 0);
  compressed.resize(size);
  return compressed;
}

Result<std::string> DecompressChunk(std::string_view hash, std::string_view compressed) {
  const auto damaged = [&](std::string_view why) {
    return Err(Code::kDataLoss, "the chunk {:.12} is damaged: {}", hash, why);
  };
  if (compressed.size() > kMaxCompressedBytes) return damaged("it is too large");
  const unsigned long long size = ZSTD_getFrameContentSize(compressed.data(), compressed.size());
  if (size == ZSTD_CONTENTSIZE_ERROR) return damaged("it is not compressed by zstd");
  if (size == ZSTD_CONTENTSIZE_UNKNOWN || size > kMaxChunkBytes) {
    return damaged("it does not say that it is small enough");
  }
  std::string raw(size, '\0');
  const size_t got = ZSTD_decompress(raw.data(), raw.size(), compressed.data(), compressed.size());
  if (ZSTD_isError(got) != 0) return damaged(ZSTD_getErrorName(got));
  if (got != raw.size() || Sha256(raw) != hash)
    return damaged("its bytes are not those of its hash");
  return raw;
}

}  // namespace muster
