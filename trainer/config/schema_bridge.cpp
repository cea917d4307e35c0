#include "trainer/config/schema_bridge.h"

#include <fmt/format.h>

#include "trainer/config/bridge.h"
#include "trainer/config/dates.h"
#include "trainer/config/option.h"
#include "trainer/config/validate.h"

namespace jevons {
namespace {

void carry(Bridge b, RouterRule& rule) {
  b("score", rule.score);
  b("top_k_before_score", rule.top_k_before_score);
  b("renormalize", rule.renormalize);
  b("scaling_factor", rule.scaling_factor);
  b("groups", rule.groups);
  b("groups_kept", rule.groups_kept);
  b("group_score", rule.group_score);
}

void carry(Bridge b, MoeConfig& moe) {
  b("num_experts", moe.router.num_experts);
  b("top_k", moe.router.top_k);
  b("expert_hidden_size", moe.expert_hidden_size);
  b("num_shared_experts", moe.num_shared_experts);
  b("first_dense_layers", moe.first_dense_layers);
  b("capacity_factor", moe.capacity_factor);
  b("reduce_at_expert", moe.reduce_at_expert);
  b("dispatch_chunks", moe.dispatch_chunks);
  b("balance_loss", moe.balance_loss);
  b("sequence_balance_loss", moe.sequence_balance_loss);
  b("global_balance_loss", moe.global_balance_loss);
  b("z_loss", moe.z_loss);
  Bridge router = b.section("router");
  carry(router, moe.router);
  router("selection_bias", moe.use_selection_bias);
  router("bias_update_rate", moe.bias_update_rate);
}

void carry(Bridge b, ModelConfig& model) {
  b("vocab_size", model.vocab_size);
  b("num_layers", model.num_layers);
  b("hidden_size", model.hidden_size);
  b("ffn_hidden_size", model.ffn_hidden_size);
  b("num_heads", model.num_heads);
  b("num_kv_heads", model.num_kv_heads);
  b("head_dim", model.head_dim);
  b("seq_len", model.seq_len);
  b("rope_theta", model.rope_theta);
  b("norm_eps", model.norm_eps);
  b("qk_norm", model.qk_norm);
  b("tie_embeddings", model.tie_embeddings);
  b("init_std", model.init_std);
  b("recompute", model.recompute);
  carry(b.section("moe"), model.moe);
}

void carry(Bridge b, ParallelConfig& parallel) {
  b("dp", parallel.layout.dp);
  b("tp", parallel.layout.tp);
  b("ep", parallel.layout.ep);
  b("pp", parallel.layout.pp);
  b("cp", parallel.layout.cp);
  b("zero_stage", parallel.zero_stage);
  b("bucket_mib", parallel.bucket_mib);
}

void carry(Bridge b, DataConfig& data) {
  const auto source = [](Bridge item, DataSource& each) {
    item("path", each.path);
    item("weight", each.weight);
  };
  b.list("train", data.train, source);
  b.list("validation", data.validation, source);
  b("validation_fraction", data.validation_fraction);
  b("seed", data.seed);
  b("document_mask", data.document_mask);
  b("allow_change", data.allow_change);
}

void carry(Bridge optimizer, Bridge schedule, OptimConfig& optim) {
  optimizer("kind", optim.kind);
  optimizer("lr", optim.lr);
  optimizer("beta1", optim.beta1);
  optimizer("beta2", optim.beta2);
  optimizer("eps", optim.eps);
  optimizer("weight_decay", optim.weight_decay);
  optimizer("clip_norm", optim.clip_norm);
  schedule("kind", optim.schedule);
  schedule("warmup_steps", optim.warmup_steps);
  schedule("decay_steps", optim.decay_steps);
  schedule("min_lr_ratio", optim.min_lr_ratio);
}

void carry(Bridge b, TrainConfig& train) {
  b("steps", train.steps);
  b("tokens", train.tokens);
  b("global_batch_size", train.global_batch_size);
  b("micro_batch_size", train.micro_batch_size);
  b("batch_ramp_start", train.batch_ramp_start);
  b("batch_ramp_samples", train.batch_ramp_samples);
  b("seed", train.seed);
  b("precision", train.precision);
  b("eval_interval", train.eval_interval);
  b("eval_samples", train.eval_samples);
  b("log_interval", train.log_interval);
  b("max_bad_steps", train.max_bad_steps);
  b("on_bad_step", train.on_bad_step);
  b("spike_zscore", train.spike_zscore);
  b("spike_window", train.spike_window);
  b("replica_check_interval", train.replica_check_interval);
}

void carry(Bridge b, CheckpointConfig& checkpoint) {
  b("interval", checkpoint.interval);
  b("keep_last", checkpoint.keep_last);
  b("keep_every", checkpoint.keep_every);
  b("keep_best", checkpoint.keep_best);
  b("on_error", checkpoint.on_error);
  b("asynchronous", checkpoint.asynchronous);
  b("auto_min_minutes", checkpoint.auto_min_minutes);
  b("auto_max_minutes", checkpoint.auto_max_minutes);
  b("final_save", checkpoint.final_save);
}

void carry(Bridge b, CostConfig& cost) {
  b("project", cost.project);
  b.choice("purpose", cost.purpose);
  b("device_type", cost.device_type);
  b("price_per_device_hour", cost.price_per_device_hour);
  b("currency", cost.currency);
  b("peak_tflops", cost.peak_tflops);
  b("heartbeat_seconds", cost.heartbeat_seconds);
  b("prices", cost.prices);
}

void carry(Bridge b, BudgetConfig& budget) {
  b("device_hours", budget.device_hours);
  b("money", budget.money);
  b("energy_kwh", budget.energy_kwh);
  b("scope", budget.scope);
  // Texts that check_options_together has read before.
  std::string date = budget.end_time > 0 ? format_moment(budget.end_time) : "";
  std::vector<std::string> shares;
  for (const double share : budget.warn_at) shares.push_back(number_text(share));
  std::string warn_at = fmt::format("{}", fmt::join(shares, " "));
  b("date", date);
  b("warn_at", warn_at);
  if (!b.to_struct()) return;
  budget.end_time = parse_moment(date).value_or(0);
  budget.warn_at = parse_shares(warn_at).value_or(std::vector<double>{});
}

void carry(Bridge b, WatchdogConfig& watchdog) {
  b("stall_seconds", watchdog.stall_seconds);
  b("long_stall_seconds", watchdog.long_stall_seconds);
  b("connect_seconds", watchdog.connect_seconds);
  b("step_seconds", watchdog.step_seconds);
}

void carry(Bridge b, RunConfig& config) {
  b("run_dir", config.run_dir);
  b("name", config.name);
  b("device", config.device);
  b("threads", config.threads);
  b("numerics", config.numerics);
  carry(b.section("model"), config.model);
  carry(b.section("parallel"), config.parallel);
  carry(b.section("data"), config.data);
  carry(b.section("optimizer"), b.section("schedule"), config.optim);
  carry(b.section("train"), config.train);
  carry(b.section("checkpoint"), config.checkpoint);
  carry(b.section("cost"), config.cost);
  carry(b.section("budget"), config.budget);
  carry(b.section("watchdog"), config.watchdog);
}

}  // namespace

RunConfig to_struct(const schema::Run& run) {
  RunConfig config;
  schema::Run source = run;
  carry(Bridge(source, Bridge::Way::kToStruct), config);
  config.data.seq_len = config.model.seq_len;
  return config;
}

schema::Run to_message(const RunConfig& config) {
  schema::Run run;
  RunConfig source = config;
  carry(Bridge(run, Bridge::Way::kToMessage), source);
  return run;
}

}  // namespace jevons
