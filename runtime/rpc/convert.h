// Convert: the values of runtime/core/protocol.h to their wire form (runtime/proto/muster.proto) and back.
//
// What goes out is made fit for the wire: text becomes valid UTF-8 and is cut at kMaxTextBytes. What comes in is checked
// against the limits below; a breach is kInvalidArgument naming the field, its value and the limit.
//
// Threading: free functions over plain values.
#pragma once

#include <string>
#include <string_view>

#include "runtime/base/status.h"
#include "runtime/core/protocol.h"

namespace muster::v1 {
class Hello;
class Generation;
class Order;
class RunResult;
class WorkerReport;
}  // namespace muster::v1

namespace muster {

inline constexpr size_t kMaxIdBytes = 64;          // of a worker, slot or agent id: [a-z0-9-]
inline constexpr size_t kMaxTextBytes = 64 << 10;  // of any other string
inline constexpr int kMaxMembers = 4096;           // of a generation
inline constexpr int kMaxMetrics = 1024;           // of a result
inline constexpr int64_t kMaxMicroBatches = 65'536;
inline constexpr int64_t kMaxBatchSize = 1'048'576;

v1::Hello ToProto(const Hello& hello);
v1::Generation ToProto(const Generation& generation);
v1::Order ToProto(const Order& order);
v1::RunResult ToProto(const RunResult& result);
v1::WorkerReport ToProto(const Report& report);

// Loss and metrics may be NaN or infinite (training can diverge); all other numbers must be finite.
Result<Hello> FromProto(const v1::Hello& message);
Result<Generation> FromProto(const v1::Generation& message);
Result<Order> FromProto(const v1::Order& message);
Result<RunResult> FromProto(const v1::RunResult& message);
Result<Report> FromProto(const v1::WorkerReport& message);

// Refuses what is not an id: 1 to 64 of [a-z0-9-]. `field` is named in the error.
Status CheckId(std::string_view field, std::string_view id);
Status CheckText(std::string_view field, std::string_view text);

// `text` as valid UTF-8 of at most `limit` bytes: bad bytes become U+FFFD, the end is cut between characters.
std::string CleanText(std::string_view text, size_t limit = kMaxTextBytes);

}  // namespace muster
