// Handshake: who may connect. An input is a conversation: of one side with somebody who does not know the secret, or of two real
// sides with somebody in between who changes what he likes; or it is the address of a peer.
//
// Beside the general promises: nobody gets in without the secret; two sides come to an end, and agree, if and only if nothing was
// changed and the position of the connector makes sense; an address that is accepted is read from its own text again.
#include <fcntl.h>

#include <algorithm>

#include "collectives/host/address.h"
#include "collectives/host/handshake.h"
#include "tests/fuzz/fuzz.h"

namespace muster::fuzz {
namespace {

using host::Handshake;
using Progress = Handshake::Progress;

enum class Mode : uint8_t { kToAcceptor, kToConnector, kBetween, kAddress, kCount };

constexpr int kMaxRanks = 1 << 16;
constexpr host::ConnectionKey kKey{7, 2, 1, 4};

struct Pair {
  Pair() {
    int ends[2];
    MUSTER_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    ours = UniqueFd(ends[0]);
    theirs = UniqueFd(ends[1]);
  }
  UniqueFd ours, theirs;
};

std::shared_ptr<const host::Credentials> Known() {
  static const auto known = std::make_shared<const host::Credentials>(
      host::Credentials{"job", "a secret of 16 bytes", 512 << 10,
                        std::make_shared<const host::Probe>(host::Probe::Create().value())});
  return known;
}

void CheckFailure(const Handshake& handshake) {
  CheckError(handshake.error());
  const Code code = handshake.error().code;
  MUSTER_CHECK(code == Code::kUnavailable || code == Code::kUnauthenticated ||
               code == Code::kInvalidArgument);
}

// Pieces of bytes, some with a descriptor, from somebody who knows nothing.
void Alone(Script& script, bool accepting) {
  const bool local = (script.Number<uint8_t>() & 1) != 0;
  Pair pair;
  Handshake handshake = accepting ? Handshake::Accept(std::move(pair.ours), local, Known())
                                  : Handshake::Connect(std::move(pair.ours), local, Known(), kKey);
  Progress progress = handshake.Advance();
  while (!script.AtEnd() && progress == Progress::kPending) {
    const bool pass = (script.Number<uint8_t>() & 1) != 0;
    const std::string_view bytes = script.Bytes();
    const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
    if (!bytes.empty()) {
      (void)host::Send(pair.theirs.get(), {&piece, 1}, pass ? Known()->probe->fd() : -1);
    }
    progress = handshake.Advance();
    MUSTER_CHECK(progress != Progress::kDone, "in without the secret");
  }
  pair.theirs.reset();
  progress = handshake.Advance();
  MUSTER_CHECK(progress == Progress::kFailed, "a peer that has gone is waited for");
  CheckFailure(handshake);
}

// Somebody between two sides.
class Between {
 public:
  explicit Between(Script& script)
      : local_((script.Number<uint8_t>() & 1) != 0),
        key_{script.Number<uint64_t>(), script.Number<int32_t>(), script.Number<int32_t>(),
             script.Number<int32_t>()} {
    for (size_t i = script.Number<uint8_t>() % 4; i > 0; --i) {
      changes_.push_back({script.Number<uint16_t>(), script.Number<uint8_t>()});
    }
  }

  void Run() {
    Handshake connector = Handshake::Connect(std::move(left_.ours), local_, Known(), key_);
    Handshake acceptor = Handshake::Accept(std::move(right_.ours), local_, Known());
    for (int round = 0; round < 4; ++round) {
      (void)connector.Advance();
      Pass(left_.theirs.get(), right_.theirs.get());
      if (acceptor.Advance() == Progress::kDone && round < 3) welcomed_ = SayWelcome(acceptor);
      Pass(right_.theirs.get(), left_.theirs.get());
    }
    Judge(connector, acceptor);
  }

 private:
  struct Change {
    uint16_t at;  // of all bytes that pass, in both directions
    uint8_t bits;
  };

  bool SayWelcome(const Handshake& acceptor) {
    return welcomed_ || host::SendWelcome(acceptor.fd());
  }

  void Pass(int from, int to) {
    char buffer[1024];
    const iovec whole{buffer, sizeof buffer};
    UniqueFd passed;
    const host::Io io = host::Receive(from, {&whole, 1}, &passed);
    if (io.bytes == 0) return;
    for (const Change& change : changes_) {
      if (change.at < passed_ || change.at >= passed_ + io.bytes) continue;
      buffer[change.at - passed_] = static_cast<char>(buffer[change.at - passed_] ^ change.bits);
      changed_ += change.bits != 0 ? 1 : 0;
    }
    passed_ += io.bytes;
    const iovec piece{buffer, io.bytes};
    (void)host::Send(to, {&piece, 1}, passed.get());
  }

  void Judge(Handshake& connector, Handshake& acceptor) {
    const Progress theirs = connector.Advance();
    const Progress ours = acceptor.Advance();
    if (theirs == Progress::kFailed) CheckFailure(connector);
    if (ours == Progress::kFailed) CheckFailure(acceptor);
    const bool valid =
        key_.size <= kMaxRanks && key_.to >= 0 && key_.from > key_.to && key_.from < key_.size;
    const bool both = theirs == Progress::kDone && ours == Progress::kDone;
    // Two changes may undo each other.
    if (changed_ == 1 || !valid) MUSTER_CHECK(!both, "{} changes, {}", changed_, valid);
    if (changed_ == 0 && valid) MUSTER_CHECK(both, "an honest handshake fails");
    if (!both) return;
    const host::Connection a = std::move(connector).Take();
    const host::Connection b = std::move(acceptor).Take();
    MUSTER_CHECK(a.key.generation == b.key.generation && a.key.from == b.key.from &&
                 a.key.to == b.key.to && a.key.size == b.key.size);
    MUSTER_CHECK(a.peer_reads_arena == local_ && b.peer_reads_arena == local_);
  }

  const bool local_;
  const host::ConnectionKey key_;
  std::vector<Change> changes_;
  Pair left_, right_;
  size_t passed_ = 0;
  int changed_ = 0;
  bool welcomed_ = false;
};

void CheckAddress(std::string_view text) {
  const auto address = host::Address::Parse(text);
  if (!address) return CheckError(address.error());
  const auto again = host::Address::Parse(address->ToString());
  MUSTER_CHECK(again.has_value(), "{}", address->ToString());
  MUSTER_CHECK(again->ToString() == address->ToString());
}

ScriptWriter Begin(Mode mode) { return std::move(ScriptWriter().Number(uint8_t(mode))); }

ScriptWriter BetweenOf(bool local, const host::ConnectionKey& key, uint8_t changes) {
  ScriptWriter script = Begin(Mode::kBetween);
  script.Number(uint8_t(local)).Number(key.generation).Number(key.from).Number(key.to);
  script.Number(key.size).Number(changes);
  return script;
}

// What a real connector says first, and a real acceptor to it. The nonces are put out, as they would differ each time.
std::string FirstWords(bool of_acceptor) {
  Pair left;
  Handshake connector = Handshake::Connect(std::move(left.ours), false, Known(), kKey);
  (void)connector.Advance();
  std::string said(256, '\0');
  said.resize(static_cast<size_t>(::recv(left.theirs.get(), said.data(), said.size(), 0)));
  if (of_acceptor) {
    Pair right;
    Handshake acceptor = Handshake::Accept(std::move(right.ours), false, Known());
    (void)::send(right.theirs.get(), said.data(), said.size(), 0);
    (void)acceptor.Advance();
    said.resize(256);
    said.resize(static_cast<size_t>(::recv(right.theirs.get(), said.data(), said.size(), 0)));
  }
  const size_t fixed = of_acceptor ? 16 : 32;
  std::fill(said.begin() + static_cast<ptrdiff_t>(fixed), said.end(), '\0');
  return said;
}

}  // namespace

std::vector<Seed> Seeds() {
  std::vector<Seed> seeds;
  ScriptWriter hello = Begin(Mode::kToAcceptor);
  hello.Number(uint8_t{1}).Number(uint8_t{1}).Bytes(FirstWords(false));
  hello.Number(uint8_t{0}).Bytes(std::string(40, '\0'));
  seeds.push_back({"hello", hello.bytes()});

  ScriptWriter challenge = Begin(Mode::kToConnector);
  challenge.Number(uint8_t{0}).Number(uint8_t{0}).Bytes(FirstWords(true));
  seeds.push_back({"challenge", challenge.bytes()});

  seeds.push_back({"honest", BetweenOf(false, kKey, 0).bytes()});
  seeds.push_back({"honest-local", BetweenOf(true, kKey, 0).bytes()});
  seeds.push_back(
      {"changed", BetweenOf(true, kKey, 1).Number(uint16_t{20}).Number(uint8_t{4}).bytes()});
  seeds.push_back({"impossible", BetweenOf(false, {1, 1, 1, 2}, 0).bytes()});

  const host::Address address{"127.0.0.1", 4711, "0a1b-2c", "muster-00ff"};
  seeds.push_back({"address", Begin(Mode::kAddress).Rest(address.ToString()).bytes()});
  seeds.push_back({"address-v6", Begin(Mode::kAddress).Rest("[::1]:4000/boot/").bytes()});
  return seeds;
}

}  // namespace muster::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace muster::fuzz;
  Script script({reinterpret_cast<const char*>(data), size});
  switch (static_cast<Mode>(script.Number<uint8_t>() % uint8_t(Mode::kCount))) {
    case Mode::kToAcceptor:
      Alone(script, /*accepting=*/true);
      break;
    case Mode::kToConnector:
      Alone(script, /*accepting=*/false);
      break;
    case Mode::kBetween:
      Between(script).Run();
      break;
    default:
      CheckAddress(script.Rest());
  }
  return 0;
}
