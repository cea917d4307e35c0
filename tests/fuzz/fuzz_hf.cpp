// config.json and the index of a Hugging Face folder, and the header of a NumPy file: any bytes either throw
// Error(kData) or give sizes of a model, files of the folder, elements that fill the file.
#include <cstdlib>
#include <string_view>

#include "kernels/core/error.h"
#include "tests/fuzz/fuzz_target.h"
#include "trainer/hf/hf_config.h"
#include "trainer/hf/shards.h"
#include "trainer/io/box.h"
#include "trainer/io/npy.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

template <class F>
void parsed(F f) {
  try {
    f();
  } catch (const jevons::Error& error) {
    require(error.code() == jevons::ExitCode::kData);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  parsed([&] {
    const jevons::HfConfig config = jevons::parse_hf_config(text, "config.json");
    require(config.model.num_layers > 0 && config.model.hidden_size > 0 && config.scale_block[1] > 0);
    jevons::run_of(config, "config.json");
  });
  parsed([&] {
    for (const auto& [name, file] : jevons::parse_index(text, "index.json")) {
      require(!file.empty() && file.find('/') == std::string::npos && file != "..");
    }
  });
  parsed([&] {
    const jevons::NpyHeader header =
        jevons::parse_npy_header(std::as_bytes(std::span(data, size)), size, "x.npy");
    const auto numel = jevons::checked_numel(header.shape);
    require(numel && header.data_begin + static_cast<std::uint64_t>(*numel) * header.element_bytes() == size);
  });
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  const std::string common =
      R"("vocab_size":20,"hidden_size":16,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":24)";
  const std::vector<std::int64_t> shape = {2, 3};
  return {
      R"({"model_type":"llama",)" + common + "}",
      R"({"model_type":"qwen3_moe","num_experts":4,"mlp_only_layers":[0],"rope_parameters":{"rope_type":"yarn","factor":2},)" +
          common + "}",
      R"({"model_type":"mixtral","rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4},)" +
          common + "}",
      R"({"model_type":"olmoe","quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]},)" +
          common + "}",
      R"({"model_type":"deepseek_v3","n_routed_experts":4,"num_experts_per_tok":2,"moe_intermediate_size":8,)" +
          std::string(
              R"("n_group":1,"topk_group":1,"first_k_dense_replace":1,"num_nextn_predict_layers":1,)") +
          common + "}",
      R"({"metadata":{"total_size":8},"weight_map":{"a":"x.safetensors","b":"y.safetensors"}})",
      jevons::format_npy_header("<f4", shape) + std::string(24, '\0')};
}
