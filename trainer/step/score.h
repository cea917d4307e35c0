// What a model makes of given sequences: its loss, and the logits themselves. Each worker reads the sequences
// of its dp coordinate, as in training.
#pragma once

#include <optional>
#include <string>

#include "trainer/step/model_worker.h"
#include "trainer/step/token_rows.h"

namespace jevons {

// Mean loss in nats of the next token; nothing without one. worker.config().model.seq_len is rows.length.
// Collective.
std::optional<double> score(ModelWorker& worker, const TokenRows& rows);

// Writes logits (rows, length, V) fp32 as a NumPy file: every worker its part of the vocabulary of its
// sequences, into a temporary file beside `path` that all of them see, which is renamed at the end. Every
// worker has one stage, which is the whole model. Collective; fails on all ranks together.
void write_logits(ModelWorker& worker, const TokenRows& rows, const std::string& path);

}  // namespace jevons
