// State: everything that a member must hold to continue a run, as one flat image cut into pages.
//
// The image is: header (step, counters), then the tensors in the order given (parameters, optimizer slots, block
// exponents), each aligned to 64 bytes, padding zero. It is what a joiner pulls, what a checkpoint stores and what the
// replicated log applies to. Every page carries its version, the position up to which records have been applied to it, so that a transfer
// goes on where it was cut off. (What can be brought forward piece by piece is a strip: runtime/train/strips.h.)
//
// Threading: no locks; the trainer owns it. Invariant: between steps all page versions equal position().
// Ownership: a State owns its image; spans of it are valid until it is destroyed, moved from or assigned to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/base/hash.h"

namespace muster {

inline constexpr size_t kPageBytes = 256 << 10;
inline constexpr size_t kTensorAlignment = 64;

// A named array of the image. Type is "F32", "I16" or "I64", as safetensors spells it.
struct TensorSpec {
  std::string name;  // "parameter/fc1.weight", "optimizer/momentum/fc1.weight", "exact/exponents"
  std::string type = "F32";
  std::vector<int64_t> shape;  // row-major; empty for a scalar

  int64_t elements() const;
  size_t bytes() const;
  // "F32[64,10]", for messages.
  std::string ToString() const;
  bool operator==(const TensorSpec&) const = default;
};

// Bytes of an element of `type`; 0 for a type that State does not have.
size_t ElementBytes(const std::string& type);

// Counters that travel with the state and are equal on all members. Trivially copyable: it is the head of the image.
struct StateHeader {
  uint64_t step = 0;              // updates applied
  uint64_t samples_consumed = 0;  // samples in committed steps
  uint64_t misses = 0;            // steps redone because a block's scale was too small
  uint64_t skipped = 0;        // steps whose update was skipped (non-finite gradient, if so chosen)
  double loss = 0;             // mean loss of the last committed step
  uint64_t reserved[11] = {};  // zero; for what later versions add
};

class State {
 public:
  // All zeros at step 0. Preconditions, checked: names are unique and not empty, types known, no dimension negative.
  explicit State(std::vector<TensorSpec> tensors);

  StateHeader& header() { return *reinterpret_cast<StateHeader*>(image_.data()); }
  const StateHeader& header() const { return *reinterpret_cast<const StateHeader*>(image_.data()); }
  uint64_t step() const { return header().step; }
  // Records applied: committed steps, and the raises of block exponents between them.
  uint64_t position() const { return header().step + header().misses; }

  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  // The memory of tensor `index`; T must be as large as an element of it.
  template <typename T>
  std::span<T> tensor(size_t index) {
    MUSTER_CHECK(sizeof(T) == ElementBytes(tensors_[index].type), "{}", tensors_[index].ToString());
    return {reinterpret_cast<T*>(image_.data() + offsets_[index]),
            static_cast<size_t>(tensors_[index].elements())};
  }
  template <typename T>
  std::span<const T> tensor(size_t index) const {
    return const_cast<State*>(this)->tensor<T>(index);
  }
  std::span<std::byte> tensor_bytes(size_t index);
  std::span<const std::byte> tensor_bytes(size_t index) const;

  std::span<std::byte> image() { return image_; }
  std::span<const std::byte> image() const { return image_; }

  size_t pages() const { return versions_.size(); }
  std::span<std::byte> page(size_t index);  // the last one may be short
  std::span<const std::byte> page(size_t index) const;
  uint64_t page_version(size_t index) const { return versions_[index]; }
  void set_page_version(size_t index, uint64_t position) { versions_[index] = position; }
  // Marks every page as being at `position`; called when a record has been applied to the whole image.
  void set_all_page_versions(uint64_t position);

  // A hash of names, types and shapes: two programs with different models must not exchange state.
  uint64_t schema_hash() const;

 private:
  // So that tensors are aligned in memory as they are in the image.
  template <typename T>
  struct AlignedAllocator {
    using value_type = T;
    AlignedAllocator() = default;
    template <typename U>
    AlignedAllocator(const AlignedAllocator<U>&) {}
    T* allocate(size_t count) {
      return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(kTensorAlignment)));
    }
    void deallocate(T* memory, size_t) {
      ::operator delete(memory, std::align_val_t(kTensorAlignment));
    }
    bool operator==(const AlignedAllocator&) const = default;
  };

  std::vector<TensorSpec> tensors_;
  std::vector<size_t> offsets_;
  std::vector<std::byte, AlignedAllocator<std::byte>> image_;
  std::vector<uint64_t> versions_;
};

}  // namespace muster
