// jevons data prepare as people call it.
#include <filesystem>

#include "data/token_file.h"
#include "tests/data/compressed.h"
#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"
#include "tests/trainer/training_run.h"

namespace jevons {
namespace {

using test::Ran;
using test::shell;

const std::string kPrepare = JEVONS_PROGRAM " data prepare ";

void check_answer(const Ran& ran, int code, const std::string& part) {
  INFO(ran.output);
  CHECK(ran.code == code);
  CHECK_THAT(ran.output, Catch::Matchers::ContainsSubstring(part));
}

}  // namespace

TEST_CASE("data prepare reads compressed files, patterns and standard input in one call", "[e2e]") {
  const TempDir dir;
  const std::string line = "{\"text\": \"hello\"}\n";
  write_bytes(dir / "a-1.jsonl.gz", gzip_of(line));
  write_bytes(dir / "a-2.jsonl.zst", zstd_of(line));
  write_bytes(dir / "b.json", "[" + line + "]");
  const Ran ran =
      shell(fmt::format("cd {} && cat a-1.jsonl.gz | {} \"a-*\" - b.json -o out/t", dir / "", kPrepare));
  check_answer(ran, 0, "out/t.bin, out/t.idx: 4 documents, 24 tokens");
  check_answer(ran, 0, "in 4 files");
  CHECK(TokenFile(dir / "out/t").num_tokens() == 24);
}

TEST_CASE("data prepare refuses what is no text, with code 65 and what to do", "[e2e]") {
  const TempDir dir;
  write_bytes(dir / "z.txt", "{\"text\": \"hello\"}\n");
  write_bytes(dir / "cut.gz", gzip_of(std::string(1000, 'x')).substr(0, 20));
  write_bytes(dir / "x.xz", std::string("\xfd\x37zXZ\0", 6));
  const auto prepare = [&](const std::string& arguments) {
    const Ran ran = shell(fmt::format("cd {} && {} {} -o t", dir / "", kPrepare, arguments));
    if (ran.code != 0) CHECK_FALSE(std::filesystem::exists(dir / "t.bin"));
    return ran;
  };
  check_answer(prepare("z.txt"), 65, "begins as JSON; say --format jsonl");
  check_answer(prepare("cut.gz"), 65, "cut.gz: offset 20: the gzip data ends too early");
  check_answer(prepare("x.xz"), 65, "x.xz: this is xz data");
  check_answer(prepare("missing.txt"), 65, "cannot open '" + dir / "missing.txt");
  check_answer(prepare("- < x.xz"), 65, "standard input: this is xz data");
  check_answer(prepare("z.txt --format text"), 0, "1 documents, 19 tokens");
}

TEST_CASE("data prepare says what it leaves out", "[e2e]") {
  const TempDir dir;
  write_bytes(dir / "a.jsonl", "{\"text\": \"a\\u0000\"}\n{\"text\": \"b\n{\"text\": \"c\"}\n");
  const std::string call = fmt::format("cd {} && {} a.jsonl -o t", dir / "", kPrepare);
  check_answer(shell(call), 65, "a.jsonl:2: not valid JSON");
  const Ran ran = shell(call + " --skip-bad-lines");
  check_answer(ran, 0, "skipped: a.jsonl:2: not valid JSON");
  check_answer(ran, 0, "1 bad records were skipped");
  check_answer(ran, 0, "1 NUL bytes of the text were dropped");
  check_answer(ran, 0, "2 documents, 4 tokens");
}

TEST_CASE("a run says at its start what it reads of every source", "[e2e]") {
  const TempDir dir;
  test::write_corpus(dir / "s-1");
  test::write_corpus(dir / "s-2", 10000);
  test::write_corpus(dir / "b", 10000);
  write_bytes(dir / "r.yaml", test::tiny_yaml(dir / "b", dir / "run"));
  const Ran ran = test::jevons(
      fmt::format("train {0}/r.yaml threads=1 train.steps=2 data.validation_fraction=0.001 "
                  "\"data.train=[{{path: {0}/s-*, weight: size}}, {{path: {0}/b, weight: size}}]\"",
                  dir / "."));
  check_answer(ran, 0, "s-* (2 files): 75.0 % of the blend, 30.0k tokens, ");
  check_answer(ran, 0, " samples in this run: 0.00");
  check_answer(ran, 0, "/b: 25.0 % of the blend");
  check_answer(ran, 0, "/b: 10 tokens are too few for a sample: it is not validated");
}

TEST_CASE("data prepare writes over nothing of a person's", "[e2e]") {
  const TempDir dir;
  write_bytes(dir / "t.bin", "mine");
  const auto prepare = [&](const std::string& arguments) {
    return shell(fmt::format("cd {} && {} {}", dir / "", kPrepare, arguments));
  };
  check_answer(prepare("t.bin -o t"), 2, "t.bin: is read as an input too");
  check_answer(prepare("- -o t < t.bin"), 2, "t.bin: is read as an input too");
  check_answer(prepare("- -o t < /dev/null"), 2, "t.bin: is there and is not one of a pair of token files");
  check_answer(prepare("t.bin -o d/"), 2, "give a prefix in it, as d/corpus");
  check_answer(prepare("t.bin -o q.bin"), 2, "give q, which makes q.bin and q.idx");
  CHECK(read_bytes(dir / "t.bin") == "mine");
}

TEST_CASE("a tokenizer is trained, its tokens are trained on, and it is found again", "[e2e]") {
  const TempDir dir;
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += fmt::format("line {}: the quick brown fox jumps over the lazy dog\n", i);
  write_bytes(dir / "book.txt", text);
  write_bytes(dir / "my.yaml",
              "model: {vocab_size: 384, num_layers: 1, hidden_size: 32, num_heads: 2, seq_len: 32, "
              "ffn_hidden_size: 32}\n"
              "data: {train: [{path: book}], validation_fraction: 0.1}\nthreads: 1\noptimizer: {lr: "
              "0.01}\nschedule: {kind: constant}\n"
              "train: {steps: 2, global_batch_size: 2, micro_batch_size: 1, eval_samples: 4}\n");
  const auto jevons = [&](const std::string& arguments) {
    return shell(fmt::format("cd {} && {} {}", dir / "", JEVONS_PROGRAM, arguments));
  };
  check_answer(jevons("data train-tokenizer book.txt --vocab-size 384 -o a.json"), 0,
               "bytes of that text per token");
  check_answer(jevons("data train-tokenizer book.txt --vocab-size 300 -o b.json"), 0, "b.json: ");
  check_answer(jevons("data prepare book.txt -o book --tokenizer a.json --threads 2"), 0,
               "bytes of text per token");
  check_answer(jevons("train my.yaml"), 0, "bits per byte");
  check_answer(jevons("generate runs/my --prompt \"the quick\" --max-tokens 3"), 0, "the quick");
  check_answer(jevons("generate runs/my --prompt \"the quick\" --tokenizer b.json"), 2, "not of b.json");
  check_answer(jevons("data prepare book.txt -o book --tokenizer b.json"), 0, "bytes of text per token");
  check_answer(jevons("train my.yaml train.steps=4 data.allow_change=true"), 65,
               "token files are now of another tokenizer");
  check_answer(jevons("train my.yaml run_dir=other model.vocab_size=290"), 2, "but model.vocab_size is 290");
}

}  // namespace jevons
