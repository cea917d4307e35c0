// What the trainer reports of a step. Filled on rank 0 with figures of all ranks. Nothing stands for what is
// unknown; 0 is a figure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace jevons {

// Routing of one MoE layer over the global batch of a step.
struct LayerLoad {
  std::int64_t layer = 0;
  double max_over_mean = 0;         // tokens of the busiest expert over the mean of all
  std::int64_t dead_experts = 0;    // experts that got no token
  double router_entropy = 0;        // nats per token, of the router's probabilities
  std::int64_t dropped_tokens = 0;  // slots beyond the capacity
  std::vector<double> load;         // of every expert over the mean; empty at most steps
  std::int64_t max_rows = 0;        // most rows that the experts of one rank got in one micro-batch
  // Without their coefficients; nothing where the model has none. Balance losses are 1 at perfect balance.
  std::optional<double> balance_loss = {}, sequence_balance_loss = {}, global_balance_loss = {};
  std::optional<double> z_loss = {};
};

// Seconds per step that a rank computed and read data, without waiting for others, over all ranks.
struct RankSpread {
  double min = 0, mean = 0, max = 0;
  int slowest = 0;  // the rank that took max
};

struct StepMetrics {
  std::int64_t step = 0;  // finished steps, this one included
  std::int64_t total_steps = 0;
  std::int64_t tokens = 0;                        // trained tokens of the run so far
  std::optional<double> loss;                     // nats per target token; nothing without a target
  std::vector<std::optional<double>> mtp_losses;  // the same of each depth of multi-token prediction
  double lr = 0;
  double grad_norm = 0;                 // before clipping
  std::optional<double> largest_logit;  // of attention, where it is watched
  bool skipped = false;                 // no weight was changed: not finite, a spike, or no target
  bool spike = false;                   // of those: a finite loss far above the ones before
  std::int64_t skipped_steps = 0;       // of the run so far
  double step_seconds = 0;  // mean of the steps since the last report; what lies between steps is apart
  std::optional<double> tokens_per_second;  // of all devices, over the same time
  std::int64_t devices = 1;
  // 0 .. 1; nothing when the device's peak is unknown. That of multi-token prediction is apart.
  std::optional<double> mfu, mtp_mfu;
  double device_seconds = 0;   // allocated to the run so far, this launch and those before
  std::optional<double> cost;  // of those; nothing when the price is unknown
  std::string currency;
  double eta_seconds = 0;           // of the steps that are left, at the same pace
  std::optional<RankSpread> ranks;  // over the same steps as step_seconds; nothing for one rank
  // Of saved activations and temporaries, on the worker with most: handed out at most, and taken from the
  // device.
  std::int64_t arena_peak_bytes = 0, arena_held_bytes = 0;
  std::vector<LayerLoad> layers;
};

// Of a committed checkpoint. Seconds are those of the slowest rank, rates in bytes per second over all ranks.
struct CheckpointMetrics {
  std::int64_t step = 0;
  double bytes = 0;          // of all files
  double stall_seconds = 0;  // that training waited
  double write_seconds = 0;  // hashing, writing, flushing
  double disk_seconds = 0;   // of those inside write and fsync

  // Nothing where no time was measured.
  std::optional<double> write_rate() const { return rate(write_seconds); }
  std::optional<double> disk_rate() const { return rate(disk_seconds); }

 private:
  std::optional<double> rate(double seconds) const {
    return seconds > 0 ? std::optional(bytes / seconds) : std::nullopt;
  }
};

// What multi-token prediction, if the model has it, gives on validation data.
struct MtpFigures {
  std::vector<std::optional<double>> losses;  // nats per target token, of each depth
  std::optional<double> acceptance;           // as in Evaluation
};

// A source of the validation data.
struct SourceLoss {
  std::string name;
  double share = 0;                     // of the blend
  std::int64_t samples = 0;             // sequences that were read
  std::optional<double> loss;           // nats per target token; nothing without a target
  std::optional<double> bits_per_byte;  // nothing if one of the loss and the bytes per token is unknown
  MtpFigures mtp = {};
};

// The figures are those of the blend: means of the sources' by their shares, of those whose loss is known.
struct ValidationMetrics {
  std::int64_t step = 0;
  std::optional<double> loss;           // nats per target token
  std::optional<double> bits_per_byte;  // nothing unless all of those sources have it
  std::vector<SourceLoss> sources;
  MtpFigures mtp = {};
};

}  // namespace jevons
