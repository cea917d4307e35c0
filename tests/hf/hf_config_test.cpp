// config.json: both styles, every refusal by its key, and back to the same model.
#include "trainer/hf/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/hf/folder_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "tests/support/presets.h"
#include "trainer/model/model_counts.h"

namespace jevons::test {
namespace {

std::string refusal(Family family, const std::string& more) {
  ExitCode code = ExitCode::kOk;
  const std::string message =
      error_of([&] { parse_hf_config(tiny_config(family, more), "config.json"); }, &code);
  CHECK((message.empty() || code == ExitCode::kData));
  return message;
}

// With keys replaced or added; null removes one.
HfConfig changed(Family family, const nlohmann::json& changes) {
  nlohmann::json config = nlohmann::json::parse(tiny_config(family));
  config.merge_patch(changes);
  return parse_hf_config(config.dump(), "config.json");
}

std::string export_refusal(const ModelConfig& model) {
  ExitCode code = ExitCode::kOk;
  const std::string message = error_of([&] { family_of(model); }, &code);
  CHECK((message.empty() || code == ExitCode::kUsage));
  return message;
}

bool has_part(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("config.json: the sizes of each family, and what an absent key means") {
  const ModelConfig qwen = changed(Family::kQwen3Moe, {{"norm_topk_prob", nullptr}}).model;
  CHECK(qwen.head_dim == 8);
  CHECK(qwen.qk_norm == QkNorm::kHead);
  CHECK(qwen.moe.first_dense_layers == 1);
  CHECK(qwen.ffn_hidden_size == 24);
  CHECK(qwen.moe.expert_hidden_size == 12);
  CHECK_FALSE(qwen.moe.router.renormalize);
  const ModelConfig mixtral =
      changed(Family::kMixtral, {{"rope_theta", nullptr}, {"router_aux_loss_coef", 0.01}}).model;
  CHECK(mixtral.rope.theta == 1e6);
  CHECK(mixtral.moe.router.renormalize);
  CHECK(mixtral.moe.balance_loss == 0.02);
  CHECK(mixtral.head_dim == 4);
  const ModelConfig llama = changed(Family::kLlama, {{"num_key_value_heads", nullptr}}).model;
  CHECK(llama.num_kv_heads == 4);
  CHECK(llama.rope.theta == 1e4);
  CHECK(changed(Family::kOlmoe, nlohmann::json::object()).model.qk_norm == QkNorm::kHidden);
  CHECK(changed(Family::kLlama, {{"torch_dtype", "bfloat16"}}).precision == Precision::kBF16);
  CHECK(changed(Family::kLlama, {{"torch_dtype", nullptr}, {"dtype", "float32"}}).precision ==
        Precision::kF32);
}

TEST_CASE("config.json: the keys of DeepSeek-V3 as it was released") {
  const HfConfig config = parse_hf_config(
      R"({"architectures":["DeepseekV3ForCausalLM"],"attention_bias":false,"attention_dropout":0.0,
          "auto_map":{"AutoConfig":"configuration_deepseek.DeepseekV3Config"},"bos_token_id":0,"eos_token_id":1,"ep_size":1,
          "first_k_dense_replace":3,"hidden_act":"silu","hidden_size":7168,"initializer_range":0.02,"intermediate_size":18432,
          "kv_lora_rank":512,"max_position_embeddings":163840,"model_type":"deepseek_v3","moe_intermediate_size":2048,
          "moe_layer_freq":1,"n_group":8,"n_routed_experts":256,"n_shared_experts":1,"norm_topk_prob":true,
          "num_attention_heads":128,"num_experts_per_tok":8,"num_hidden_layers":61,"num_key_value_heads":128,
          "num_nextn_predict_layers":1,"q_lora_rank":1536,"qk_nope_head_dim":128,"qk_rope_head_dim":64,
          "quantization_config":{"activation_scheme":"dynamic","fmt":"e4m3","quant_method":"fp8","weight_block_size":[128,128]},
          "rms_norm_eps":1e-06,"rope_scaling":{"beta_fast":32,"beta_slow":1,"factor":40,"mscale":1.0,"mscale_all_dim":1.0,
          "original_max_position_embeddings":4096,"type":"yarn"},"rope_theta":10000,"routed_scaling_factor":2.5,
          "scoring_func":"sigmoid","tie_word_embeddings":false,"topk_group":4,"topk_method":"noaux_tc","torch_dtype":"bfloat16",
          "transformers_version":"4.33.1","use_cache":true,"v_head_dim":128,"vocab_size":129280})",
      "config.json");
  ModelConfig published = deepseek_v3();
  published.seq_len = 163840;
  published.mtp.depth = 1;
  published.rope.scaling = RopeScaling::kYarn;
  published.rope.factor = 40;
  published.rope.original_seq_len = 4096;
  published.rope.mscale = published.rope.mscale_all_dim = 1;
  CHECK(config.model == published);
  CHECK(config.not_taken.empty());
  CHECK(config.precision == Precision::kBF16);
  CHECK(run_of(config, "config.json").model == published);
  std::int64_t main = 0, further = 0, copies = 0;
  for (const WeightPlace& place : weight_places(config.family, config.model)) {
    (place.is_copy ? copies : place.name.starts_with("layers.61.") ? further : main) += place.shape.numel();
  }
  CHECK(main == 671'026'419'200);
  CHECK(copies == 2 * 129280LL * 7168);
  CHECK(further == count_model(published).mtp.total);
}

TEST_CASE("config.json: Kimi K2 is a DeepSeek-V3 under its own name") {
  const HfConfig config = parse_hf_config(
      R"({"architectures":["DeepseekV3ForCausalLM"],"attention_bias":false,"attention_dropout":0.0,
          "auto_map":{"AutoConfig":"configuration_deepseek.DeepseekV3Config"},"aux_loss_alpha":0.001,"bos_token_id":163584,
          "eos_token_id":163585,"first_k_dense_replace":1,"hidden_act":"silu","hidden_size":7168,"initializer_range":0.02,
          "intermediate_size":18432,"kv_lora_rank":512,"max_position_embeddings":131072,"model_type":"kimi_k2",
          "moe_intermediate_size":2048,"moe_layer_freq":1,"n_group":1,"n_routed_experts":384,"n_shared_experts":1,
          "norm_topk_prob":true,"num_attention_heads":64,"num_experts_per_tok":8,"num_hidden_layers":61,
          "num_key_value_heads":64,"num_nextn_predict_layers":0,"pretraining_tp":1,"q_lora_rank":1536,"qk_nope_head_dim":128,
          "qk_rope_head_dim":64,"rms_norm_eps":1e-06,"rope_scaling":{"beta_fast":1.0,"beta_slow":1.0,"factor":32.0,"mscale":1.0,
          "mscale_all_dim":1.0,"original_max_position_embeddings":4096,"type":"yarn"},"rope_theta":50000.0,
          "routed_scaling_factor":2.827,"scoring_func":"sigmoid","seq_aux":true,"tie_word_embeddings":false,"topk_group":1,
          "topk_method":"noaux_tc","torch_dtype":"bfloat16","use_cache":true,"v_head_dim":128,"vocab_size":163840})",
      "config.json");
  ModelConfig published = kimi_k2();
  published.seq_len = 131072;
  published.rope.theta = 50000;
  published.rope.scaling = RopeScaling::kYarn;
  published.rope.factor = 32;
  published.rope.original_seq_len = 4096;
  published.rope.beta_fast = 1;
  published.rope.mscale = published.rope.mscale_all_dim = 1;
  published.moe.sequence_balance_loss = 0.001;
  published.moe.router.group_score = GroupScore::kSumOfTop2;  // of the one group
  CHECK(config.model == published);
  CHECK(config.not_taken.empty());
  std::int64_t sum = 0;
  for (const WeightPlace& place : weight_places(config.family, config.model)) sum += place.shape.numel();
  CHECK(sum == 1'026'408'232'448);
  CHECK(nlohmann::json::parse(format_hf_config(config.model, Precision::kBF16, ""))["model_type"] ==
        "deepseek_v3");
}

TEST_CASE("config.json: positions in the styles of transformers 4 and 5 are the same") {
  const nlohmann::json scaling = {{"rope_type", "llama3"},
                                  {"factor", 8.0},
                                  {"low_freq_factor", 1.0},
                                  {"high_freq_factor", 4.0},
                                  {"original_max_position_embeddings", 8192}};
  nlohmann::json parameters = scaling;
  parameters["rope_theta"] = 500000.0;
  nlohmann::json old_name = scaling;
  old_name.erase("rope_type");
  old_name["type"] = "llama3";
  const RopeConfig four =
      changed(Family::kLlama, {{"rope_theta", 500000.0}, {"rope_scaling", scaling}}).model.rope;
  CHECK(four.theta == 500000);
  CHECK(four.scaling == RopeScaling::kLlama3);
  CHECK(four.original_seq_len == 8192);
  CHECK(four ==
        changed(Family::kLlama, {{"rope_theta", nullptr}, {"rope_parameters", parameters}}).model.rope);
  CHECK(four == changed(Family::kLlama, {{"rope_theta", 500000.0}, {"rope_scaling", old_name}}).model.rope);
  const RopeConfig plain =
      changed(Family::kLlama,
              {{"rope_theta", nullptr}, {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5.0}}}})
          .model.rope;
  CHECK(plain.theta == 5);
  CHECK(plain.scaling == RopeScaling::kNone);
  const RopeConfig yarn =
      changed(Family::kLlama, {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}, {"beta_fast", 0}}}})
          .model.rope;
  CHECK(yarn.original_seq_len == 32);  // max_position_embeddings
  CHECK(yarn.beta_fast == RopeConfig().beta_fast);
}

TEST_CASE("config.json: what would be another model is refused by its key, the rest is listed") {
  struct Bad {
    Family family;
    std::string key, value;
  };
  const Bad bad[] = {{Family::kLlama, "attention_bias", "true"},
                     {Family::kLlama, "mlp_bias", "true"},
                     {Family::kLlama, "hidden_act", "\"gelu\""},
                     {Family::kLlama, "layer_types", "[\"full_attention\",\"sliding_attention\"]"},
                     {Family::kLlama, "final_logit_softcapping", "30.0"},
                     {Family::kLlama, "partial_rotary_factor", "0.5"},
                     {Family::kLlama, "head_dim", "-4"},
                     {Family::kLlama, "head_dim", "4.5"},
                     {Family::kLlama, "quantization_config", R"({"quant_method":"gptq","bits":4})"},
                     {Family::kMixtral, "sliding_window", "16"},
                     {Family::kQwen3Moe, "use_sliding_window", "true"},
                     {Family::kQwen3Moe, "decoder_sparse_step", "2"},
                     {Family::kOlmoe, "clip_qkv", "8.0"},
                     {Family::kOlmoe, "head_dim", "8"},
                     {Family::kDeepseekV2, "norm_topk_prob", "true"},
                     {Family::kDeepseekV2, "scoring_func", "\"sigmoid\""},
                     {Family::kDeepseekV2, "moe_layer_freq", "2"},
                     {Family::kDeepseekV2, "rope_interleave", "false"},
                     {Family::kDeepseekV2, "num_nextn_predict_layers", "1"}};
  for (const auto& [family, key, value] : bad) {
    INFO(key << " = " << value);
    CHECK(has_part(refusal(family, "\"" + key + "\":" + value), key));
  }
  CHECK(has_part(refusal(Family::kLlama, R"("rope_scaling":{"rope_type":"longrope","factor":2.0})"),
                 "longrope"));
  CHECK(has_part(refusal(Family::kLlama, R"("rope_scaling":{"rope_type":"linear"})"), "factor"));
  CHECK(refusal(Family::kMixtral, R"("sliding_window":null)").empty());
  CHECK(refusal(Family::kMixtral, R"("sliding_window":32)").empty());  // all positions
  CHECK(refusal(Family::kQwen3Moe, R"("use_sliding_window":false,"sliding_window":4)").empty());
  CHECK(refusal(Family::kOlmoe, R"("clip_qkv":null)").empty());
  const HfConfig config = parse_hf_config(
      tiny_config(Family::kLlama, R"("unsloth_fixed":true,"use_cache":true,"bos_token_id":1)"), "c");
  CHECK(config.not_taken == std::vector<std::string>{"unsloth_fixed"});
  // Absent, it stands for more layers than there are.
  CHECK_THROWS_WITH(changed(Family::kDeepseekV3, {{"first_k_dense_replace", nullptr}}),
                    Catch::Matchers::ContainsSubstring("first_k_dense_replace, which is not given"));
  CHECK_THROWS_WITH(changed(Family::kQwen3Moe, {{"mlp_only_layers", {1}}}),
                    Catch::Matchers::ContainsSubstring("mlp_only_layers"));
  CHECK_THROWS_WITH(changed(Family::kLlama, {{"model_type", "gpt2"}}),
                    Catch::Matchers::ContainsSubstring("llama, mixtral"));
  CHECK_THROWS_WITH(changed(Family::kLlama, {{"architectures", {"LlamaForSequenceClassification"}}}),
                    Catch::Matchers::ContainsSubstring("architectures"));
  CHECK_THROWS_WITH(changed(Family::kLlama, {{"vocab_size", nullptr}}),
                    Catch::Matchers::ContainsSubstring("vocab_size is missing"));
  CHECK_THROWS_WITH(parse_hf_config(R"({"model_type":"llama","model_type":"mixtral"})", "c"),
                    Catch::Matchers::ContainsSubstring("twice"));
}

TEST_CASE("config.json: sizes that no model has are refused as data") {
  const HfConfig config = changed(Family::kLlama, {{"num_key_value_heads", 3}});
  ExitCode code = ExitCode::kOk;
  CHECK(has_part(error_of([&] { run_of(config, "x/config.json"); }, &code), "num_kv_heads"));
  CHECK(code == ExitCode::kData);
  CHECK(run_of(changed(Family::kLlama, nlohmann::json::object()), "c").model ==
        changed(Family::kLlama, nlohmann::json::object()).model);
}

TEST_CASE("config.json: a model that is written is read as the same model") {
  std::vector<ModelConfig> models = {llama3_8b(),   mixtral_8x7b(), qwen3_30b_a3b(),   olmoe_1b_7b(),
                                     deepseek_v3(), deepseek_v2(),  deepseek_v2_lite()};
  for (const Family family : kFamilies) models.push_back(parse_hf_config(tiny_config(family), "c").model);
  models.push_back(llama3_8b());
  models.back().tie_embeddings = true;
  models.back().rope.scaling = RopeScaling::kYarn;
  models.back().rope.factor = 4;
  models.back().rope.original_seq_len = 2048;
  models.back().rope.attention_factor = 1.5;
  models.push_back(deepseek_v3());
  models.back().mtp.depth = 2;
  for (ModelConfig& model : models) {
    model.moe.z_loss = 0;  // has no key
    const std::string text = format_hf_config(model, Precision::kF32, "");
    const HfConfig back = parse_hf_config(text, "c");
    INFO(text);
    CHECK(back.family == family_of(model));
    CHECK(back.precision == Precision::kF32);
    CHECK(back.not_taken.empty());
    // A coefficient that is divided and multiplied again.
    ModelConfig read = back.model;
    CHECK(read.moe.balance_loss == Approx(model.moe.balance_loss));
    CHECK(read.moe.global_balance_loss == Approx(model.moe.global_balance_loss));
    read.moe.balance_loss = model.moe.balance_loss;
    read.moe.global_balance_loss = model.moe.global_balance_loss;
    CHECK(read == model);
  }
}

TEST_CASE("config.json: token ids and the context of the original are kept") {
  const std::string original =
      R"({"bos_token_id":1,"eos_token_id":[2,3],"max_position_embeddings":131072,"vocab_size":7})";
  const auto written = nlohmann::json::parse(format_hf_config(llama3_8b(), Precision::kBF16, original));
  CHECK(written["bos_token_id"] == 1);
  CHECK(written["eos_token_id"] == nlohmann::json{2, 3});
  CHECK(written["pad_token_id"].is_null());
  CHECK(written["max_position_embeddings"] == 131072);
  CHECK(written["vocab_size"] == 128256);
  CHECK(written["torch_dtype"] == "bfloat16");
  CHECK(written["rope_scaling"].is_null());
}

TEST_CASE("export: what no family can express is refused by option") {
  const auto refused = [](ModelConfig model, auto change) {
    change(model);
    return export_refusal(model);
  };
  CHECK(has_part(refused(llama3_8b(), [](ModelConfig& m) { m.qk_norm = QkNorm::kHead; }), "model.qk_norm"));
  CHECK(has_part(refused(llama3_8b(), [](ModelConfig& m) { m.num_heads = 24; }), "model.num_heads"));
  CHECK(has_part(refused(mixtral_8x7b(), [](ModelConfig& m) { m.moe.capacity_factor = 1; }),
                 "capacity_factor"));
  CHECK(has_part(refused(mixtral_8x7b(), [](ModelConfig& m) { m.moe.num_shared_experts = 1; }),
                 "num_shared_experts"));
  CHECK(has_part(refused(mixtral_8x7b(), [](ModelConfig& m) { m.moe.router.renormalize = false; }),
                 "renormalize"));
  CHECK(has_part(refused(mixtral_8x7b(), [](ModelConfig& m) { m.moe.first_dense_layers = 1; }),
                 "first_dense_layers"));
  CHECK(has_part(refused(qwen3_30b_a3b(), [](ModelConfig& m) { m.moe.use_selection_bias = true; }),
                 "selection_bias"));
  CHECK(has_part(refused(qwen3_30b_a3b(), [](ModelConfig& m) { m.moe.router.scaling_factor = 2; }),
                 "scaling_factor"));
  CHECK(
      has_part(refused(qwen3_30b_a3b(), [](ModelConfig& m) { m.moe.router.score = ScoreFunction::kSigmoid; }),
               "score"));
  CHECK(has_part(refused(qwen3_30b_a3b(), [](ModelConfig& m) { m.moe.router.groups = 8; }), "router.groups"));
  CHECK(has_part(refused(olmoe_1b_7b(), [](ModelConfig& m) { m.head_dim = 64; }), "model.head_dim"));
  CHECK(has_part(refused(mixtral_8x7b(), [](ModelConfig& m) { m.mtp.depth = 1; }), "model.mtp.depth"));
  CHECK(has_part(refused(deepseek_v3(), [](ModelConfig& m) { m.moe.use_selection_bias = false; }),
                 "selection_bias"));
  CHECK(has_part(refused(deepseek_v3(), [](ModelConfig& m) { m.swiglu_limit = 7; }), "swiglu_limit"));
  CHECK(has_part(
      refused(deepseek_v2(), [](ModelConfig& m) { m.moe.router.score = ScoreFunction::kSqrtSoftplus; }),
      "router.score"));
  for (const ModelConfig& model : {mixtral_8x7b(), deepseek_v2()}) {
    CHECK(has_part(refused(model, [](ModelConfig& m) { m.moe.router.forced_balance = true; }),
                   "forced_balance"));
  }
  CHECK(has_part(refused(deepseek_v2(), [](ModelConfig& m) { m.moe.router.renormalize = true; }),
                 "renormalize"));
  CHECK(has_part(
      refused(deepseek_v2(), [](ModelConfig& m) { m.moe.router.group_score = GroupScore::kSumOfTop2; }),
      "group_score"));
  // Both options at once.
  const std::string both = refused(mixtral_8x7b(), [](ModelConfig& m) {
    m.moe.capacity_factor = 1;
    m.moe.router.scaling_factor = 2;
  });
  CHECK(has_part(both, "capacity_factor"));
  CHECK(has_part(both, "scaling_factor"));
  // Choosing before the softmax is the same function as renormalising after it.
  ModelConfig first = mixtral_8x7b();
  first.moe.router.top_k_before_score = true;
  first.moe.router.renormalize = false;
  CHECK(export_refusal(first).empty());
}

TEST_CASE("names: the tensors of published models hold their published numbers of weights") {
  struct Published {
    ModelConfig model;
    std::int64_t total;
    std::size_t tensors;
  };
  const Published published[] = {
      {llama3_8b(), 8'030'261'248, 291},         {mixtral_8x7b(), 46'702'792'704, 995},
      {qwen3_30b_a3b(), 30'532'122'624, 18867},  {olmoe_1b_7b(), 6'919'161'856, 3219},
      {deepseek_v3(), 671'026'419'200, 45395},   {deepseek_v2(), 235'741'434'880, 29102},
      {deepseek_v2_lite(), 15'706'484'224, 5291}};
  for (const auto& [model, total, tensors] : published) {
    const std::vector<WeightPlace> places = weight_places(family_of(model), model);
    std::int64_t sum = 0;
    for (const WeightPlace& place : places) sum += place.shape.numel();
    CHECK(sum == total);
    CHECK(places.size() == tensors);
    CHECK(sum == count_model(model).total);
  }
}

}  // namespace jevons::test
