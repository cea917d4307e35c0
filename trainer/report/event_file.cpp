#include "trainer/report/event_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include "kernels/core/host_name.h"
#include "tensorboard.pb.h"
#include "trainer/io/clock.h"
#include "trainer/io/crc32c.h"

namespace jevons {
namespace {

std::string event_file_path(const std::string& directory) {
  return fmt::format("{}/events.out.tfevents.{:010}.{}.{}", directory, static_cast<std::int64_t>(unix_time()),
                     host_name(), ::getpid());
}

template <class Integer>
std::string little_endian(Integer value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof(value); ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

// Rotated and shifted, so that the checksum of data that holds checksums is not degenerate.
std::uint32_t masked_crc(const std::string& bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

proto::Event event_at(std::int64_t step) {
  proto::Event event;
  event.set_wall_time(unix_time());
  event.set_step(step);
  return event;
}

void add(proto::Event& event, const std::string& tag, double value) {
  proto::Summary::Value& scalar = *event.mutable_summary()->add_value();
  scalar.set_tag(tag);
  scalar.set_simple_value(static_cast<float>(value));
}

// What is unknown has no point in its curve.
void add(proto::Event& event, const std::string& tag, const std::optional<double>& value) {
  if (value) add(event, tag, *value);
}

// "train/mtp_loss_0", by depth.
void add_mtp(proto::Event& event, const std::string& group,
             const std::vector<std::optional<double>>& losses) {
  for (std::size_t k = 0; k < losses.size(); ++k)
    add(event, fmt::format("{}/mtp_loss_{}", group, k), losses[k]);
}

}  // namespace

std::string tfrecord(const std::string& message) {
  const std::string length = little_endian(static_cast<std::uint64_t>(message.size()));
  return length + little_endian(masked_crc(length)) + message + little_endian(masked_crc(message));
}

EventFile::EventFile(const std::string& directory, std::int64_t first_step)
    : file_(File::append(event_file_path(directory))) {
  proto::Event first = event_at(0);
  first.set_file_version("brain.Event:2");
  file_.write(tfrecord(first.SerializeAsString()));
  proto::Event start = event_at(first_step);
  start.mutable_session_log()->set_status(proto::SessionLog::START);
  file_.write(tfrecord(start.SerializeAsString()));
}

void EventFile::write(const StepMetrics& m) {
  proto::Event event = event_at(m.step);
  add(event, "train/loss", m.loss);
  add_mtp(event, "train", m.mtp_losses);
  add(event, "train/lr", m.lr);
  add(event, "train/grad_norm", m.grad_norm);
  if (m.largest_logit) add(event, "train/largest_logit", *m.largest_logit);
  add(event, "speed/step_seconds", m.step_seconds);
  add(event, "speed/tokens_per_second", m.tokens_per_second);
  add(event, "speed/mfu", m.mfu);
  add(event, "speed/mtp_mfu", m.mtp_mfu);
  add(event, "cost/device_hours", m.device_seconds / 3600);
  add(event, "cost/money", m.cost);
  add(event, "memory/arena_peak_bytes", static_cast<double>(m.arena_peak_bytes));
  add(event, "memory/arena_held_bytes", static_cast<double>(m.arena_held_bytes));
  for (const LayerLoad& load : m.layers) {
    const auto of_layer = [&](const char* name) { return fmt::format("{}/layer_{}", name, load.layer); };
    add(event, of_layer("load_max_over_mean"), load.max_over_mean);
    add(event, of_layer("dead_experts"), static_cast<double>(load.dead_experts));
    add(event, of_layer("router_entropy"), load.router_entropy);
    add(event, of_layer("dropped_tokens"), static_cast<double>(load.dropped_tokens));
    add(event, of_layer("max_rows"), static_cast<double>(load.max_rows));
    add(event, of_layer("balance_loss"), load.balance_loss);
    add(event, of_layer("sequence_balance_loss"), load.sequence_balance_loss);
    add(event, of_layer("global_balance_loss"), load.global_balance_loss);
    add(event, of_layer("z_loss"), load.z_loss);
  }
  file_.write(tfrecord(event.SerializeAsString()));
}

void EventFile::write(const ValidationMetrics& m) {
  proto::Event event = event_at(m.step);
  add(event, "validation/loss", m.loss);
  add(event, "validation/bits_per_byte", m.bits_per_byte);
  add_mtp(event, "validation", m.mtp.losses);
  add(event, "validation/mtp_acceptance", m.mtp.acceptance);
  for (const SourceLoss& source : m.sources) {
    if (m.sources.size() == 1) break;  // the blend says it all
    add(event, "validation_loss/" + source.name, source.loss);
    add(event, "validation_bits_per_byte/" + source.name, source.bits_per_byte);
    for (std::size_t k = 0; k < source.mtp.losses.size(); ++k) {
      add(event, fmt::format("validation_mtp_loss_{}/{}", k, source.name), source.mtp.losses[k]);
    }
    add(event, "validation_mtp_acceptance/" + source.name, source.mtp.acceptance);
  }
  file_.write(tfrecord(event.SerializeAsString()));
}

}  // namespace jevons
