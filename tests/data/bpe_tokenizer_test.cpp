// Tokenizers from files against ids that Hugging Face's tokenizers made (tokenizers/make.py); what is
// refused; cuts.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/tokenizer.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer_files.h"
#include "kernels/core/rng.h"
#include "tests/data/sentencepiece_bytes.h"
#include "tests/data/temp_files.h"

namespace jevons {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<std::int32_t>;

const std::string kFolder = JEVONS_SOURCE_DIR "/tests/data/tokenizers/";

Json json_of(const std::string& name) {
  return Json::parse(read_bytes(kFolder + name));
}

Ids encoded(const Tokenizer& tokenizer, const std::string& text, Specials specials = Specials::kAreText) {
  Ids ids;
  tokenizer.encoder(specials)->encode(text, TextPart::kBeginning, ids);
  return ids;
}

// Words, numbers, marks and white space in a row, all of one seed.
std::string random_text(std::uint64_t seed) {
  const std::string parts[] = {"the",     "Earth",  "\u00e9t\u00e9", "\u4f60\u597d", "12345",
                               "'s",      "don't",  "...",           "=>",           " ",
                               "  ",      "\n",     "\n\n",          "\r\n",         "\t",
                               "\u2581",  "\u3000", "<mask>",        "<|end|>",      "fox",
                               "e\u0301", "\xff",   "\xe2\x82",      "\U0001f642",   " a ",
                               "x\n"};
  const RandomStream random(seed, "text");
  std::string text;
  for (std::uint64_t i = 0; i < 40; ++i) text += parts[random.below(i, std::size(parts))];
  return text;
}

// tokenizer.json of a vocabulary of a, b, ab, with something changed.
std::string refusal_of(const Json& change) {
  Json json = {{"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}}, {"merges", {"a b"}}}}};
  json.merge_patch(change);
  const TempDir dir;
  write_bytes(dir / "tokenizer.json", json.dump());
  const std::string message = message_of(ExitCode::kData, [&] { load_tokenizer(dir / "tokenizer.json"); });
  CHECK(contains(message, "tokenizer.json: "));
  return message;
}

}  // namespace

TEST_CASE("ids are those of Hugging Face's tokenizers, and decode to the text", "[tokenizer]") {
  const Json vectors = json_of("vectors.json");
  for (const char* name : {"bytes", "characters"}) {
    const auto tokenizer = load_tokenizer(kFolder + name + ".json");
    for (const auto& [kind, specials] :
         {std::pair("text", Specials::kAreText), {"tokens", Specials::kAreTokens}}) {
      for (const Json& vector : vectors.at(fmt::format("{} {}", name, kind))) {
        const auto text = vector["text"].get<std::string>();
        INFO(name << " " << kind << " '" << text << "'");
        const Ids ids = encoded(*tokenizer, text, specials);
        CHECK(ids == vector["ids"].get<Ids>());
        std::string bytes, normal;
        for (const std::int32_t id : ids) bytes += tokenizer->bytes_of(id);
        CHECK((bytes == tokenizer->decode(ids) || bytes == " " + tokenizer->decode(ids)));
        // Tokens that swallow blanks do not give them back, U+2581 is a blank in one of them, and that puts
        // one behind a special token.
        if (specials == Specials::kAreTokens && contains(text, "<|end|>")) continue;
        if (contains(text, "<mask>") || contains(text, "<right>") || contains(text, "\u2581")) continue;
        CHECK(tokenizer->decode(ids) ==
              (std::string(name) == "bytes" ? normalized(text, NormalForm::kC, normal) : text));
      }
    }
  }
}

TEST_CASE("a tokenizer knows its size, its separator and its own rule for a beginning", "[tokenizer]") {
  const auto bytes = load_tokenizer(kFolder + "bytes.json");
  CHECK(bytes->vocab_size() == 603);
  CHECK(bytes->prefix() == Ids{0});
  CHECK_FALSE(bytes->separator());  // "<|end|>" is no usual name
  CHECK(bytes->name() == kFolder + "bytes.json");
  CHECK(bytes->hash() != load_tokenizer(kFolder + "characters.json")->hash());

  const TempDir dir;
  Json json = json_of("bytes.json");
  write_bytes(dir / "tokenizer.json", json.dump(2));
  CHECK(load_tokenizer(dir / "tokenizer.json")->hash() == bytes->hash());
  write_bytes(dir / "tokenizer_config.json",
              R"({"eos_token": {"content": "<|end|>"}, "add_bos_token": false})");
  const auto folder = load_tokenizer(dir / "");
  CHECK(folder->separator() == 1);
  CHECK(folder->prefix().empty());
  CHECK(folder->hash() == bytes->hash());
  json["added_tokens"][4]["single_word"] = false;
  write_bytes(dir / "tokenizer.json", json.dump());
  CHECK(load_tokenizer(dir / "")->hash() != bytes->hash());
  write_bytes(dir / "tokenizer_config.json", R"({"eos_token": "<|gone|>"})");
  CHECK(contains(message_of(ExitCode::kData, [&] { load_tokenizer(dir / ""); }), "\"<|gone|>\" is not in"));
}

TEST_CASE("a text cut where it may be has the same ids", "[tokenizer]") {
  for (const char* name : {"bytes", "characters"}) {
    const auto tokenizer = load_tokenizer(kFolder + name + ".json");
    const auto encoder = tokenizer->encoder(Specials::kAreTokens);
    std::size_t cuts = 0;
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
      const std::string text = random_text(seed);
      Ids whole;
      encoder->encode(text, TextPart::kBeginning, whole);
      for (std::size_t end = 1; end <= text.size(); end += 7) {
        const std::size_t at = tokenizer->cut(std::string_view(text).substr(0, end));
        if (at == 0) continue;
        Ids parts;
        encoder->encode(text.substr(0, at), TextPart::kBeginning, parts);
        encoder->encode(text.substr(at), TextPart::kRest, parts);
        INFO(name << " '" << text << "' at " << at);
        REQUIRE(parts == whole);
        ++cuts;
      }
    }
    CHECK(cuts > 3000);
  }
}

TEST_CASE("long pieces are merged as short ones", "[tokenizer]") {
  const auto tokenizer = load_tokenizer(kFolder + "bytes.json");
  // Pieces of letters only: 60 that are one piece, whose merges do not depend on how they are looked for.
  const RandomStream random(7, "letters");
  for (std::uint64_t n = 0; n < 200; ++n) {
    std::string text;
    for (std::uint64_t i = 0; i < 20 + n; ++i) text += "tehoind "[random.below(1000 * n + i, 7)];
    const Ids ids = encoded(*tokenizer, text);
    CHECK(tokenizer->decode(ids) == text);
    // No pair that is left is itself the start of a shorter way: encoding the text of each pair again keeps
    // it apart.
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const std::string pair =
          std::string(tokenizer->bytes_of(ids[i])) + std::string(tokenizer->bytes_of(ids[i + 1]));
      CHECK(encoded(*tokenizer, pair) != Ids{ids[i]});
    }
  }
}

TEST_CASE("bytes that are no UTF-8 count as U+FFFD, one for each longest part", "[tokenizer]") {
  std::string fixed;
  const auto repaired = [&](const std::string& text) { return std::string(valid_utf8(text, fixed)); };
  const std::string bad = "\ufffd";
  CHECK(repaired("a\xff"
                 "b") == "a" + bad + "b");
  CHECK(repaired("\xe2\x82") == bad);
  CHECK(repaired("\xe2\x82\xe2\x82\xac") == bad + "\u20ac");
  CHECK(repaired("\xf0\x9f\x98") == bad);
  CHECK(repaired("\xed\xa0\x80") == bad + bad + bad);
  CHECK(repaired("\xc0\xaf") == bad + bad);
  CHECK(repaired("\xf4\x90\x80\x80") == bad + bad + bad + bad);
  CHECK(repaired("\xf4\x8f\xbf\xbf") == "\U0010ffff");
  CHECK(is_utf8("\u00e9\u20ac\U0001f642"));
}

TEST_CASE("what a tokenizer.json asks for and is not done is refused by name", "[tokenizer]") {
  const auto refused = [](const Json& change, const std::string& what) {
    const std::string message = refusal_of(change);
    INFO(message);
    CHECK(contains(message, what));
  };
  refused({{"model", {{"type", "Unigram"}}}}, "model: the model Unigram is not supported");
  refused({{"model", {{"type", "WordPiece"}}}}, "WordPiece");
  refused({{"model", {{"dropout", 0.1}}}}, "model.dropout");
  refused({{"model", {{"continuing_subword_prefix", "##"}}}}, "model.continuing_subword_prefix: \"##\"");
  refused({{"model", {{"merges", {"a c"}}}}}, "model.merges[0]: \"c\" is not in the vocabulary");
  refused({{"model", {{"merges", {"b a"}}}}}, "model.merges[0]: \"ba\" is not in the vocabulary");
  refused({{"model", {{"merges", {"a b c"}}}}}, "model.merges[0]: expected two tokens");
  refused({{"model", {{"merges", {{"a", "b", "c"}}}}}}, "model.merges[0]: expected two tokens, found 3");
  refused({{"model", {{"vocab", {{"a", -1}}}}}}, "model.vocab.a: expected a token id");
  refused({{"model", {{"vocab", {{"a", 4294967296}}}}}}, "model.vocab.a: expected a token id");
  refused({{"model", {{"vocab", {{"c", 1}}}}}}, "id 1 is both");
  refused({{"model", {{"unk_token", "u"}}}}, "model.unk_token: \"u\" is not in the vocabulary");
  refused({{"model", 3}}, "model: expected an object, found number");
  refused({{"normalizer", {{"type", "Lowercase"}}}}, "normalizer: the normalizer Lowercase is not supported");
  refused({{"normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Nmt"}}}}}}},
          "normalizer.normalizers[1]: the normalizer Nmt");
  refused({{"pre_tokenizer", {{"type", "BertPreTokenizer"}}}},
          "pre_tokenizer: the pre-tokenizer BertPreTokenizer");
  const auto split = [](const std::string& pattern, const std::string& behavior = "Isolated") {
    return Json{
        {"pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", behavior}}}};
  };
  refused(split("a", "Sideways"), "the behavior Sideways");
  refused(split("a("), "pre_tokenizer: ");
  refused(split(R"(\h+)"), R"(\h at 0)");
  refused(split("[a[b]]"), "a set within a set");
  refused(split("[a&&b]"), "an intersection");
  refused(split(R"(\p{N}{1,3}+)"), "+ behind {...}");
  refused(split("(?m:a.)"), "such a group");
  refused({{"decoder", {{"type", "WordPiece"}}}}, "decoder: the decoder WordPiece");
  refused({{"post_processor", {{"type", "BertProcessing"}}}},
          "post_processor: the post-processor BertProcessing");
  refused({{"added_tokens", {{{"id", 7}, {"content", "a"}}}}}, "\"a\" is 0 in the vocabulary and 7");
  refused({{"added_tokens", {{{"content", "x"}}}}}, "added_tokens[0]: there is no \"id\"");
}

TEST_CASE("a SentencePiece model joins by score, and refuses what is not done", "[tokenizer]") {
  using test::field, test::piece;
  const std::string pieces = test::small_pieces(), plain = test::plain_normalizer();
  const TempDir dir;
  const auto load = [&](const std::string& more) {
    write_bytes(dir / "tokenizer.model", pieces + more);
    return load_tokenizer(dir / "");
  };
  const auto tokenizer = load(test::byte_pairs() + plain);
  CHECK(tokenizer->separator() == 2);
  CHECK(tokenizer->encode("abc bc") == Ids{7, 9, 6, 7, 8});
  CHECK(tokenizer->encode("A\u00e9B[x]a") == Ids{7, 3, 0, 11, 4});
  CHECK(tokenizer->decode(Ids{1, 10, 5, 7, 8, 3, 2}) == "ab bcA");
  CHECK(encoded(*tokenizer, "a</s>", Specials::kAreTokens) == Ids{10, 2});
  const auto refused = [&](const std::string& more, const std::string& what) {
    CHECK(contains(message_of(ExitCode::kData, [&] { load(more); }), "tokenizer.model: " + what));
  };
  refused(plain, "the model Unigram");
  refused(field(2, "\x18\x02") + field(3, field(1, "nmt_nfkc") + field(2, "map")),
          "the normalizer \"nmt_nfkc\"");
  refused(field(2, "\x18\x02"), "remove_extra_whitespaces");
  refused(field(2, "\x18\x02") + plain + piece("u", 0, 5), "\"u\", a piece that is not used");
  refused(field(2, "\x18\x02") + plain + piece("xy", 0, 1), "piece 12 \"xy\" has a character");
  refused(field(2, "\x18\x02") + plain + piece("a", 0, 1), "the piece \"a\" is there twice");
  refused("\x0a\x7f", "offset");
}

TEST_CASE("tiktoken ranks: every complaint names the line", "[tokenizer]") {
  const TempDir dir;
  const auto refused = [&](const std::string& text, const std::string& what) {
    write_bytes(dir / "t.tiktoken", text);
    const std::string message = message_of(ExitCode::kData, [&] { load_tokenizer(dir / "t.tiktoken"); });
    INFO(message);
    CHECK(contains(message, what));
  };
  refused("YQ== 0\nYg== 1\n", "2 ranks: how text is split");
  refused("YQ== 0\nYg== x\n", "t.tiktoken:2: expected a token in base64");
  refused("YQ== 0\nYg== 0\n", "t.tiktoken:2: rank 0 is there twice");
  refused("YQ== 0\nYg== 7\n", "t.tiktoken:2: rank 7 in a file of");
  refused("", "the file is empty");
}

namespace {

std::string base64(const std::string& bytes) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i)
      bits = bits << 8 | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0u);
    for (std::size_t i = 0; i < 4; ++i)
      text += at + i > bytes.size() ? '=' : kLetters[bits >> (18 - 6 * i) & 63];
  }
  return text;
}

// All bytes and six more tokens, one of which is not used, behind 24 special ones.
Json small_tekken() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* token : {"th", " th", "he", "the", " the", "not used"}) tokens.emplace_back(token);
  Json vocab = Json::array();
  for (std::size_t rank = 0; rank < tokens.size(); ++rank)
    vocab.push_back({{"rank", rank}, {"token_bytes", base64(tokens[rank])}, {"token_str", nullptr}});
  return {{"config",
           {{"pattern", " ?[a-z]+|[^a-z]"},
            {"num_vocab_tokens", 262},
            {"default_vocab_size", 24 + 261},
            {"default_num_special_tokens", 24},
            {"version", "v3"}}},
          {"vocab", vocab}};
}

}  // namespace

TEST_CASE("tekken.json: ranks behind special tokens", "[tokenizer]") {
  const TempDir dir;
  const std::string path = dir / "tekken.json";
  write_bytes(path, small_tekken().dump());
  const auto tokenizer = load_tokenizer(dir / "");
  CHECK(tokenizer->vocab_size() == 285);
  CHECK(tokenizer->separator() == 2);
  // Lowest rank first: "th" of " the", then " th", then " the"; "the" is a token itself.
  CHECK(tokenizer->encode(" the") == Ids{24 + 260});
  CHECK(tokenizer->encode("the the") == Ids{24 + 259, 24 + 260});
  CHECK(tokenizer->encode("he") == Ids{24 + 258});
  CHECK(tokenizer->encode("thh") == Ids{24 + 256, 24 + 'h'});
  CHECK(tokenizer->encode("\n") == Ids{24 + '\n'});
  CHECK(encoded(*tokenizer, "<s>the[INST]", Specials::kAreTokens) == Ids{1, 24 + 259, 3});
  CHECK(encoded(*tokenizer, "<SPECIAL_23>", Specials::kAreTokens) == Ids{23});
  CHECK(tokenizer->decode(Ids{24 + 259, 24 + 260, 2}) == "the the</s>");

  Json listed = small_tekken();
  listed["special_tokens"] = {{{"rank", 0}, {"token_str", "<unk>"}, {"is_control", true}},
                              {{"rank", 5}, {"token_str", "<tool>"}, {"is_control", true}}};
  write_bytes(path, listed.dump());
  const auto other = load_tokenizer(path);
  CHECK(encoded(*other, "<tool><SPECIAL_1>", Specials::kAreTokens) == Ids{5, 1});
  CHECK(!other->separator());

  const auto refused = [&](const Json& change, const std::string& what) {
    Json json = small_tekken();
    json.merge_patch(change);
    write_bytes(path, json.dump());
    const std::string message = message_of(ExitCode::kData, [&] { load_tokenizer(path); });
    INFO(message);
    CHECK(contains(message, "tekken.json: " + what));
  };
  refused({{"config", {{"default_vocab_size", 287}}}}, "vocab: 262 tokens, of which 263 should be used");
  refused({{"config", {{"default_num_special_tokens", 285}}}}, "config: 285 of 285 tokens are special");
  refused({{"config", {{"default_num_special_tokens", 3}}}}, "special token 3 of 3");
  refused({{"config", {{"pattern", "("}}}}, "config.pattern: ");
  refused({{"config", {{"pattern", nullptr}}}}, "config: there is no \"pattern\"");
  Json wrong = small_tekken();
  wrong["vocab"][7]["rank"] = 8;
  refused(wrong, "vocab[7]: tokens do not stand by rank");
  wrong = small_tekken();
  wrong["vocab"][7]["token_bytes"] = "*";
  refused(wrong, "vocab[7].token_bytes: is no token in base64");
  wrong["vocab"][7]["token_bytes"] = base64("the");
  refused(wrong, "the token of rank 259 is there twice");
}

TEST_CASE("a tokenizer's files for other programs make the same ids", "[tokenizer]") {
  const TempDir dir;
  const auto written = [&](const std::string& name) {
    std::vector<std::string> names;
    for (const TokenizerFile& file : tokenizer_files(name)) {
      write_bytes(dir / file.name, file.content);
      names.push_back(file.name);
    }
    std::sort(names.begin(), names.end());
    CHECK(names == std::vector<std::string>{"tokenizer.json", "tokenizer_config.json"});
    return load_tokenizer(dir / "");
  };
  const auto bytes = written(kByteTokenizer);
  CHECK(bytes->vocab_size() == 256);
  CHECK(bytes->encode("a\xc3\xa9 b") == Ids{'a', 0xc3, 0xa9, ' ', 'b'});
  CHECK(Json::parse(read_bytes(dir / "tokenizer_config.json"))["tokenizer_class"] ==
        "PreTrainedTokenizerFast");

  const TempDir source;
  write_bytes(source / "tekken.json", small_tekken().dump());
  write_bytes(source / "tokenizer_config.json",
              R"({"tokenizer_class":"Other","bos_token":"<s>","add_bos_token":true})");
  const auto tekken = load_tokenizer(source / ""), back = written(source / "tekken.json");
  CHECK(back->vocab_size() == tekken->vocab_size());
  CHECK(back->separator() == tekken->separator());
  CHECK(back->prefix() == Ids{1});
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const std::string text = random_text(seed) + " the<s>they";
    for (const Specials specials : {Specials::kAreText, Specials::kAreTokens}) {
      CHECK(encoded(*back, text, specials) == encoded(*tekken, text, specials));
    }
  }
  // A tokenizer.json is taken as it is, with what stands beside it.
  write_bytes(source / "tokenizer.json", read_bytes(kFolder + "bytes.json"));
  write_bytes(source / "tokenizer_config.json", R"({"chat_template":"x"})");
  written(source / "");
  CHECK(read_bytes(dir / "tokenizer.json") == read_bytes(kFolder + "bytes.json"));
  CHECK(read_bytes(dir / "tokenizer_config.json") == R"({"chat_template":"x"})");
}

TEST_CASE("what is no tokenizer is named", "[tokenizer]") {
  const TempDir dir;
  CHECK(contains(message_of(ExitCode::kUsage, [&] { load_tokenizer(dir / "none"); }), "none"));
  CHECK(
      contains(message_of(ExitCode::kData, [&] { load_tokenizer(dir / ""); }), "neither tokenizer.json nor"));
  write_bytes(dir / "tokenizer.json", "{\"model\": ");
  CHECK(contains(message_of(ExitCode::kData, [&] { load_tokenizer(dir / ""); }),
                 "tokenizer.json: not valid JSON"));
}

}  // namespace jevons
