// The tokenizer that goes into a Hugging Face folder, and what is said of it.
#include "trainer/hf/model_tokenizer.h"

#include "tests/data/sentencepiece_bytes.h"
#include "tests/data/temp_files.h"
#include "tests/support/catch.h"

namespace jevons {

TEST_CASE("export: a SentencePiece model that stands alone is noted, whatever brings it") {
  const TempDir dir;
  write_bytes(dir / "tokenizer.model", test::small_sentencepiece());
  ModelSource came_with, trained_on;
  came_with.carried = dir / "";
  const std::string name = dir / "tokenizer.model";
  trained_on.state.passport = {{"tokenizer", name}, {"tokenizer_hash", load_tokenizer(name)->hash()}};
  // The same where the run knows that it was trained on tokens of what came with the weights.
  ModelSource both;
  both.carried = came_with.carried, both.state.passport = trained_on.state.passport;
  for (const ModelSource* source : {&came_with, &trained_on, &both}) {
    const FolderTokenizer found = folder_tokenizer(*source);
    CHECK(found.keeps_carried);
    REQUIRE(found.notes.size() == 1);
    CHECK(contains(found.notes[0], "tokenizer.model stands alone: there is no tokenizer_config.json"));
  }
  CHECK(folder_tokenizer(trained_on).files.size() == 1);

  write_bytes(dir / "tokenizer_config.json", R"({"tokenizer_class":"LlamaTokenizer"})");
  for (const ModelSource* source : {&came_with, &trained_on, &both})
    CHECK(folder_tokenizer(*source).notes.empty());
  CHECK(folder_tokenizer(trained_on).files.size() == 2);
}

}  // namespace jevons
