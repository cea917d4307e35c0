// A TensorBoard event file: length, masked CRC-32C of the length, message, masked CRC-32C of the message, for
// each event. Source: TensorFlow's TFRecord format (tensorflow/core/lib/io/record_writer.cc).
#pragma once

#include <cstdint>
#include <string>

#include "trainer/io/file.h"
#include "trainer/report/step_metrics.h"

namespace jevons {

class EventFile {
 public:
  // Creates events.out.tfevents.<seconds>.<host>.<pid> in `directory`. It begins with a session start at
  // `first_step`, so that TensorBoard forgets what earlier files say of that step and later ones. Throws
  // Error(kFailure) naming the file.
  EventFile(const std::string& directory, std::int64_t first_step);
  void write(const StepMetrics& metrics);
  void write(const ValidationMetrics& metrics);
  const std::string& path() const { return file_.path(); }

 private:
  File file_;
};

// One record with its framing.
std::string tfrecord(const std::string& message);

}  // namespace jevons
