// digits: recognizes handwritten digits with a small neural network. The default model of `launcher run`, and an example
// of a training program: a data set, a model (mlp.h), an optimizer, and Train().

#include <cblas.h>
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "models/digits/data.h"
#include "models/digits/mlp.h"
#include "runtime/train/train.h"

int main(int argc, char** argv) {
  using namespace muster;
  openblas_set_num_threads(1);  // the same bits for any number of cores

  const TrainOptions defaults{.steps = 3000, .micro_batches = 16, .batch_size = 16};
  TrainOptions options = ParseTrainOptions(
      argc, argv, "Recognizes handwritten digits with a small neural network.", defaults);
  options.learning_rate = CosineRate(0.003, 100, options.steps);

  const auto data = LoadDigits(options.data);
  if (!data) {
    fmt::print(stderr, "digits: {}\n", data.error().ToString());
    return 2;
  }
  const Mlp::Shape shape{.inputs = data->train.features(), .hidden = 128, .classes = kDigitClasses};
  Mlp model(shape, /*noise=*/0.2f, data->test);
  const std::unique_ptr<Optimizer> optimizer = AdamW();
  return Train(model, data->train, *optimizer, options);
}
