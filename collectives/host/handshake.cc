#include "collectives/host/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <poll.h>

#include <bit>
#include <cstring>

#include "runtime/base/check.h"

namespace muster::host {
namespace {

// Messages are sent as they lie in memory.
static_assert(std::endian::native == std::endian::little, "the wire format is little-endian");

constexpr uint64_t kMagic = 0x3152'4554'5355'4d48;  // "HMUSTER1": the protocol and its version
constexpr int kMaxRanks = 1 << 16;

using Nonce = std::array<std::byte, 32>;
using MacBytes = std::array<std::byte, 32>;

struct Hello {
  uint64_t magic = kMagic;
  uint64_t generation = 0;
  int32_t from = 0;
  int32_t to = 0;
  int32_t size = 0;
  int32_t has_probe = 0;
  Nonce nonce{};
  Probe::Token token{};
};

struct Challenge {
  uint64_t chunk_bytes = 0;  // the connector refuses if its own differs
  int32_t has_probe = 0;
  int32_t maps_peer = 0;
  Nonce nonce{};
  Probe::Token token{};
  MacBytes mac{};  // last: the transcript ends before it
};

struct Proof {
  uint64_t maps_peer = 0;
  MacBytes mac{};
};

constexpr uint64_t kWelcome = 0x454d'4f43'4c45'574d;

template <typename T>
T Read(std::span<const std::byte> bytes) {
  static_assert(std::is_trivially_copyable_v<T> && std::has_unique_object_representations_v<T>);
  T message;
  std::memcpy(&message, bytes.data(), sizeof(T));
  return message;
}

// Adds a message to the transcript, without its proof.
void Append(std::vector<std::byte>& transcript, const void* message, size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(message);
  transcript.insert(transcript.end(), begin, begin + bytes);
}

bool Equal(const MacBytes& a, const MacBytes& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

Handshake::Handshake(UniqueFd fd, bool local, std::shared_ptr<const Credentials> credentials)
    : credentials_(std::move(credentials)), local_(local) {
  connection_.fd = std::move(fd);
}

Handshake Handshake::Connect(UniqueFd fd, bool local,
                             std::shared_ptr<const Credentials> credentials,
                             const ConnectionKey& key) {
  Handshake handshake(std::move(fd), local, std::move(credentials));
  handshake.connection_.key = key;
  Hello hello{.generation = key.generation,
              .from = key.from,
              .to = key.to,
              .size = key.size,
              .has_probe = handshake.DescriptorToPass() >= 0};
  FillRandom(hello.nonce);
  if (hello.has_probe != 0) hello.token = handshake.credentials_->probe->token();
  Append(handshake.transcript_, &hello, sizeof(hello));
  handshake.BeginSend(Stage::kSendHello, &hello, sizeof(hello));
  return handshake;
}

Handshake Handshake::Accept(UniqueFd fd, bool local,
                            std::shared_ptr<const Credentials> credentials) {
  Handshake handshake(std::move(fd), local, std::move(credentials));
  handshake.BeginReceive(Stage::kReceiveHello, sizeof(Hello));
  return handshake;
}

Handshake::Progress Handshake::Advance() {
  while (stage_ != Stage::kDone && stage_ != Stage::kFailed) {
    const iovec rest{message_.data() + done_, message_.size() - done_};
    const Io io = Sending() ? Send(fd(), {&rest, 1}, done_ == 0 ? DescriptorToPass() : -1)
                            : Receive(fd(), {&rest, 1}, local_ ? &peer_probe_ : nullptr);
    if (io.would_block) return Progress::kPending;
    if (io.closed) {
      Fail(Code::kUnavailable, io.error.empty() ? "the peer closed the connection" : io.error);
      break;
    }
    done_ += io.bytes;
    if (done_ == message_.size()) OnComplete();
  }
  return stage_ == Stage::kDone ? Progress::kDone : Progress::kFailed;
}

short Handshake::events() const { return Sending() ? POLLOUT : POLLIN; }

bool Handshake::Sending() const {
  return stage_ == Stage::kSendHello || stage_ == Stage::kSendChallenge ||
         stage_ == Stage::kSendProof;
}

int Handshake::DescriptorToPass() const {
  const bool carries = stage_ != Stage::kSendProof;
  return local_ && credentials_->probe && carries ? credentials_->probe->fd() : -1;
}

void Handshake::BeginSend(Stage stage, const void* message, size_t bytes) {
  stage_ = stage;
  done_ = 0;
  message_.clear();
  Append(message_, message, bytes);
}

void Handshake::BeginReceive(Stage stage, size_t bytes) {
  stage_ = stage;
  done_ = 0;
  message_.assign(bytes, std::byte{0});
}

void Handshake::OnComplete() {
  switch (stage_) {
    case Stage::kReceiveHello:
      return OnHello();
    case Stage::kSendHello:
      return BeginReceive(Stage::kReceiveChallenge, sizeof(Challenge));
    case Stage::kReceiveChallenge:
      return OnChallenge();
    case Stage::kSendChallenge:
      return BeginReceive(Stage::kReceiveProof, sizeof(Proof));
    case Stage::kReceiveProof:
      return OnProof();
    case Stage::kSendProof:
      return BeginReceive(Stage::kReceiveWelcome, sizeof(kWelcome));
    case Stage::kReceiveWelcome:
      if (Read<uint64_t>(message_) != kWelcome) {
        return Fail(Code::kUnavailable, "the welcome is malformed");
      }
      stage_ = Stage::kDone;
      return;
    case Stage::kDone:
    case Stage::kFailed:
      return;
  }
}

void Handshake::OnHello() {
  const auto hello = Read<Hello>(message_);
  const bool valid = hello.magic == kMagic && hello.size <= kMaxRanks && hello.to >= 0 &&
                     hello.from > hello.to && hello.from < hello.size;
  if (!valid) return Fail(Code::kInvalidArgument, "the greeting is malformed");
  connection_.key = {hello.generation, hello.from, hello.to, hello.size};
  Append(transcript_, &hello, sizeof(hello));

  Challenge challenge{.chunk_bytes = credentials_->chunk_bytes};
  challenge.has_probe = DescriptorToPass() >= 0;
  challenge.maps_peer = challenge.has_probe != 0 && hello.has_probe != 0 &&
                        Probe::Check(peer_probe_.get(), hello.token);
  FillRandom(challenge.nonce);
  if (challenge.has_probe != 0) challenge.token = credentials_->probe->token();
  Append(transcript_, &challenge, offsetof(Challenge, mac));
  challenge.mac = Mac("acceptor");
  BeginSend(Stage::kSendChallenge, &challenge, sizeof(challenge));
}

void Handshake::OnChallenge() {
  const auto challenge = Read<Challenge>(message_);
  Append(transcript_, &challenge, offsetof(Challenge, mac));
  if (!Equal(challenge.mac, Mac("acceptor"))) {
    return Fail(Code::kUnauthenticated,
                fmt::format("the peer does not know the secret of job '{}'", credentials_->job));
  }
  if (challenge.chunk_bytes != credentials_->chunk_bytes) {
    return Fail(Code::kInvalidArgument,
                fmt::format("chunk_bytes is {} there and {} here", challenge.chunk_bytes,
                            credentials_->chunk_bytes));
  }
  connection_.peer_reads_arena = challenge.maps_peer != 0;
  Proof proof;
  proof.maps_peer = challenge.has_probe != 0 && DescriptorToPass() >= 0 &&
                    Probe::Check(peer_probe_.get(), challenge.token);
  Append(transcript_, &proof, offsetof(Proof, mac));
  proof.mac = Mac("connector");
  BeginSend(Stage::kSendProof, &proof, sizeof(proof));
}

void Handshake::OnProof() {
  const auto proof = Read<Proof>(message_);
  Append(transcript_, &proof, offsetof(Proof, mac));
  if (!Equal(proof.mac, Mac("connector"))) {
    return Fail(Code::kUnauthenticated,
                fmt::format("the peer does not know the secret of job '{}'", credentials_->job));
  }
  connection_.peer_reads_arena = proof.maps_peer != 0;
  stage_ = Stage::kDone;
}

void Handshake::Fail(Code code, std::string message) {
  stage_ = Stage::kFailed;
  error_ = {code, std::move(message), {}};
}

MacBytes Handshake::Mac(std::string_view role) const {
  std::vector<std::byte> text;
  const uint64_t job_bytes = credentials_->job.size();
  Append(text, role.data(), role.size());
  Append(text, &job_bytes, sizeof(job_bytes));
  Append(text, credentials_->job.data(), credentials_->job.size());
  text.insert(text.end(), transcript_.begin(), transcript_.end());
  MacBytes mac{};
  unsigned length = 0;
  const auto* done = ::HMAC(EVP_sha256(), credentials_->secret.data(),
                            static_cast<int>(credentials_->secret.size()),
                            reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                            reinterpret_cast<unsigned char*>(mac.data()), &length);
  MUSTER_CHECK(done != nullptr && length == mac.size(), "HMAC-SHA256 failed");
  return mac;
}

bool SendWelcome(int fd) {
  const iovec welcome{const_cast<uint64_t*>(&kWelcome), sizeof(kWelcome)};
  return Send(fd, {&welcome, 1}).bytes == sizeof(kWelcome);
}

}  // namespace muster::host
