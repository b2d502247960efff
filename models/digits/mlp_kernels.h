// What the network of mlp.h does between its matrix products, as programs of blocks (runtime/cuda/block.h). Every sum is taken in an
// order that only the shapes decide.
//
// Threading: as GPU kernels are; blocks write disjoint parts.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "runtime/cuda/kernel.h"

namespace muster::digits {

// A row-major matrix [rows, columns].
struct MatrixArguments {
  float* matrix = nullptr;
  size_t rows = 0;
  size_t columns = 0;
  float* vector = nullptr;       // of one value a column
  const float* masks = nullptr;  // as large as the matrix
};

// Calls `act(i)` with the one of `count` that is this thread's, if there is one: a grid has a thread for each.
template <typename Act>
MUSTER_DEVICE void ForMine(const cuda::Block& block, size_t count, Act act) {
  block.ForEach([&](int thread) {
    const size_t i = block.index() * cuda::Block::kThreads + static_cast<size_t>(thread);
    if (i < count) act(i);
  });
}

// Every row becomes a copy of the vector.
MUSTER_DEVICE void FillRows(const cuda::Block& block, const MatrixArguments& arguments) {
  ForMine(block, arguments.rows * arguments.columns,
          [&](size_t i) { arguments.matrix[i] = arguments.vector[i % arguments.columns]; });
}

// The vector grows by the rows, first row first.
MUSTER_DEVICE void AddRows(const cuda::Block& block, const MatrixArguments& arguments) {
  ForMine(block, arguments.columns, [&](size_t column) {
    float sum = arguments.vector[column];
    for (size_t row = 0; row < arguments.rows; ++row) {
      sum += arguments.matrix[row * arguments.columns + column];
    }
    arguments.vector[column] = sum;
  });
}

MUSTER_DEVICE void Relu(const cuda::Block& block, const MatrixArguments& arguments) {
  ForMine(block, arguments.rows * arguments.columns, [&](size_t i) {
    if (!(arguments.matrix[i] > 0)) arguments.matrix[i] = 0;
  });
}

// Zero where the mask is not positive: where ReLU let nothing pass.
MUSTER_DEVICE void Mask(const cuda::Block& block, const MatrixArguments& arguments) {
  ForMine(block, arguments.rows * arguments.columns, [&](size_t i) {
    if (!(arguments.masks[i] > 0)) arguments.matrix[i] = 0;
  });
}

struct SoftmaxArguments {
  float* logits = nullptr;  // [rows, columns]; become the gradient of the mean loss by them
  size_t rows = 0;
  size_t columns = 0;
  const int32_t* labels = nullptr;
  double* losses = nullptr;  // of each row
};

MUSTER_DEVICE void Softmax(const cuda::Block& block, const SoftmaxArguments& arguments) {
  ForMine(block, arguments.rows, [&](size_t i) {
    float* row = arguments.logits + i * arguments.columns;
    // Without the largest logit no power overflows, and the quotients stay the same.
    double largest = row[0];
    for (size_t j = 1; j < arguments.columns; ++j) largest = row[j] > largest ? row[j] : largest;
    double sum = 0;
    for (size_t j = 0; j < arguments.columns; ++j) sum += std::exp(row[j] - largest);
    const auto label = static_cast<size_t>(arguments.labels[i]);
    arguments.losses[i] = std::log(sum) - (row[label] - largest);
    for (size_t j = 0; j < arguments.columns; ++j) {
      const double share = std::exp(row[j] - largest) / sum - (j == label ? 1 : 0);
      row[j] = static_cast<float>(share / static_cast<double>(arguments.rows));
    }
  });
}

struct MeanLossArguments {
  const double* losses = nullptr;
  size_t rows = 0;
  double* mean = nullptr;
};

// By one block.
MUSTER_DEVICE void MeanLoss(const cuda::Block& block, const MeanLossArguments& arguments) {
  MUSTER_SHARED double partials[cuda::Block::kThreads];
  block.ForEach([&](int thread) {
    double sum = 0;
    for (size_t i = static_cast<size_t>(thread); i < arguments.rows; i += cuda::Block::kThreads) {
      sum += arguments.losses[i];
    }
    partials[thread] = sum;
  });
  block.Sync();
  block.Once([&] {
    double sum = 0;
    for (const double partial : partials) sum += partial;
    *arguments.mean = sum / static_cast<double>(arguments.rows);
  });
}

}  // namespace muster::digits

// Every kernel: KERNEL(its name, the type of its arguments, its program).
#define MUSTER_MLP_KERNELS(KERNEL)                                                 \
  KERNEL(mlp_fill_rows, muster::digits::MatrixArguments, muster::digits::FillRows) \
  KERNEL(mlp_add_rows, muster::digits::MatrixArguments, muster::digits::AddRows)   \
  KERNEL(mlp_relu, muster::digits::MatrixArguments, muster::digits::Relu)          \
  KERNEL(mlp_mask, muster::digits::MatrixArguments, muster::digits::Mask)          \
  KERNEL(mlp_softmax, muster::digits::SoftmaxArguments, muster::digits::Softmax)   \
  KERNEL(mlp_mean_loss, muster::digits::MeanLossArguments, muster::digits::MeanLoss)
