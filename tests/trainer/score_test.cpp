// Losses and logits by workers that hold weights alone, against workers of training with the same weights.
#include "trainer/step/score.h"

#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/step/inference.h"
#include "trainer/step/run_state.h"

namespace jevons {
namespace {

using Options = std::vector<std::string>;

// By the corpus's rule (write_corpus), of several lengths; one has nothing to predict. Two workers need three
// rounds.
TokenRows some_rows() {
  TokenRows rows{
      .length = 16, .tokens = std::vector<std::int32_t>(80), .lengths = {16, 3, 1, 9, 12}, .bytes = {}};
  std::int32_t id = 1;
  for (std::int32_t& token : rows.tokens) token = id, id = (id * 5 + 3) % 64;
  return rows;
}

// A checkpoint that a pipeline of two wrote, with embeddings that both of its ranks use.
struct Trained {
  Trained() {
    test::write_corpus(dir / "corpus");
    CHECK(test::train(2, yaml(), with({"parallel.pp=2", "train.steps=4"})) == ExitCode::kOk);
    checkpoint = find_checkpoint(dir / "run");
  }
  static Options with(const Options& more) {
    Options options = {"model.tie_embeddings=true", "model.mtp.depth=1"};
    options.insert(options.end(), more.begin(), more.end());
    return options;
  }
  std::string yaml() const { return test::tiny_yaml(dir / "corpus", dir / "run"); }
  RunConfig config(const Options& more, int world) const {
    return parse_run_config(yaml(), "test.yaml", with(more), {.world = world});
  }
  // On every rank, of a worker with weights alone and of one of training.
  std::vector<std::vector<double>> losses(int world, const Options& options) const {
    return test::run_ranks(world, [&](Communicator& ranks) {
      const RunConfig config = this->config(options, world);
      const CheckpointReader weights(checkpoint);
      InferenceWorker inference(config, ranks, {}, weights);
      Worker training(config, ranks, {}, nullptr);
      restore_weights(training, weights);
      const TokenRows rows = some_rows();
      return std::vector{score(inference, rows).value(), score(training, rows).value()};
    });
  }
  TempDir dir;
  std::string checkpoint;
};

struct Case {
  const char* name;
  int world;
  Options options;
};

}  // namespace

TEST_CASE("weights alone give the loss of a worker of training, bit for bit, on every layout",
          "[score][ranks]") {
  const Trained trained;
  const double one = trained.losses(1, {})[0][0];
  CHECK(one > 1);
  CHECK(one < 4);  // untrained: 4.16
  for (const Case& c : {Case{"one", 1, {}}, Case{"dp2", 2, {}}, Case{"tp2", 2, {"parallel.tp=2"}},
                        Case{"ep2", 2, {"parallel.ep=2"}}, Case{"pp2", 2, {"parallel.pp=2"}},
                        Case{"cp2", 2, {"parallel.cp=2"}},
                        Case{"pp2 tp2 ep2", 4, {"parallel.pp=2", "parallel.tp=2", "parallel.ep=2"}}}) {
    INFO(c.name);
    const auto losses = trained.losses(c.world, c.options);
    for (const std::vector<double>& of_rank : losses) {
      CHECK(of_rank[0] == of_rank[1]);
      CHECK(of_rank[0] == losses[0][0]);
    }
    CHECK(losses[0][0] == Approx(one).epsilon(1e-6));
    Options narrow = c.options;
    narrow.emplace_back("train.precision=bf16");
    const auto rounded = trained.losses(c.world, narrow);
    CHECK(rounded[0][0] == rounded[0][1]);
    CHECK(rounded[0][0] != losses[0][0]);
    CHECK(rounded[0][0] == Approx(one).epsilon(2e-2));
  }
}

TEST_CASE("logits from weights alone are those of a worker of training", "[score][ranks]") {
  const Trained trained;
  for (const Case& c : {Case{"dp2", 2, {}}, Case{"tp2", 2, {"parallel.tp=2"}}}) {
    INFO(c.name);
    const std::string inference = trained.dir / (std::string(c.name) + "-inference.npy"),
                      training = trained.dir / (std::string(c.name) + "-training.npy");
    test::run_ranks(c.world, [&](Communicator& ranks) {
      const RunConfig config = trained.config(c.options, c.world);
      const CheckpointReader weights(trained.checkpoint);
      InferenceWorker alone(config, ranks, {}, weights);
      write_logits(alone, some_rows(), inference);
      Worker whole(config, ranks, {}, nullptr);
      restore_weights(whole, weights);
      write_logits(whole, some_rows(), training);
    });
    const std::string logits = read_bytes(inference);
    CHECK(logits.size() > 5 * 16 * 64 * sizeof(float));
    CHECK(logits == read_bytes(training));
  }
}

TEST_CASE("a worker that scores holds its weights, in the precision of its products, and nothing beside",
          "[score][ranks]") {
  const Trained trained;
  for (const Case& c : {Case{"one", 1, {}}, Case{"tp2", 2, {"parallel.tp=2"}},
                        Case{"ep2", 2, {"parallel.ep=2"}}, Case{"pp2", 2, {"parallel.pp=2"}}}) {
    for (const bool narrow : {false, true}) {
      INFO(c.name << (narrow ? " bf16" : " f32"));
      test::run_ranks(c.world, [&](Communicator& ranks) {
        Options options = c.options;
        options.emplace_back(narrow ? "train.precision=bf16" : "train.precision=f32");
        const RunConfig config = trained.config(options, c.world);
        InferenceWorker worker(config, ranks, {}, CheckpointReader(trained.checkpoint));
        score(worker, some_rows());
        std::size_t weights = 0;
        for (const Param& param : worker.store().params()) {
          const std::size_t width = narrow && !param.spec.keep_f32 ? 2 : 4;
          if (!param.owner) weights += static_cast<std::size_t>(param.local_shape.numel()) * width;
        }
        // A group is padded to 16 elements for each rank of its communicator.
        std::size_t padding = 0;
        for (const ParamGroup& group : worker.store().groups()) {
          ENSURE(!group.grads.defined(), "there are gradients");
          padding += 16 * 4 * static_cast<std::size_t>(group.comm->size());
        }
        const MemoryReport memory = worker.memory();
        ENSURE(memory.weights_and_grads >= weights && memory.weights_and_grads < weights + padding,
               "{} bytes for weights of {}", memory.weights_and_grads, weights);
        ENSURE(memory.optimizer == 0, "{} bytes of an optimizer", memory.optimizer);
        ENSURE(padding < weights, "{} of padding tell nothing of {}", padding, weights);
      });
    }
  }
}

TEST_CASE("weights that a checkpoint does not have are missed by name, on all ranks", "[score][ranks]") {
  const Trained trained;
  const std::string message = message_of(ExitCode::kData, [&] {
    test::run_ranks(2, [&](Communicator& ranks) {
      const RunConfig config = trained.config({"parallel.pp=2", "model.tie_embeddings=false"}, 2);
      InferenceWorker(config, ranks, {}, CheckpointReader(trained.checkpoint));
    });
  });
  CHECK(contains(message, "has no tensor 'lm_head'"));
}

}  // namespace jevons
