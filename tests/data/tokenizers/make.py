#!/usr/bin/env python3
"""Makes the small tokenizers of this folder and vectors.json, the ids of some strings, with Hugging Face's `tokenizers`:
trained on pages of this project. Run again only if one of them must change: the tests hold what was recorded.
Recorded with tokenizers 0.23.3."""
import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
DOCS = HERE.parents[2] / "docs"
TEXTS = [p.read_text() for p in sorted(DOCS.glob("*.md")) if p.name in ("data.md", "cost.md", "moe.md")]
STRINGS = [
    "", "a", " ", "\n", "Hello world", "In the beginning God created the heaven and the earth.", "  two  blanks ", "a\n\nb\r\n\r\nc\t\td",
    "tokens 12345 and 1,000,000 of 3.14", "it's DON'T they'LL 'S", "naïve café e\u0301 Å ﬁ", "你好 世界 こんにちは カタカナ 12三", "🙂👩‍👩‍👧🇩🇪",
    "<|end|>", "a<|end|>b", "x <mask> y", "x <right>   y", "fox foxes fox", "<|end|><|end|> <|end|>", "▁▁a▁b", "<0x41>", "\u0000\u0001",
    "if (x == y) { return; } // done", "-----\n=====", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u00a0\u2003x\u3000y\u180ez", "٣٤٥٦ ½ ² Ⅷ", "Ἐν ἀρχῇ ἦν ὁ λόγος", "שלום мир हिन्दी ไทย", "checkpoint checkpoints data loader",
]
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""]


def of_bytes():
    t = Tokenizer(models.BPE(ignore_merges=True))
    stages = [pre_tokenizers.Split(Regex(p), "isolated") for p in DEEPSEEK]
    t.pre_tokenizer = pre_tokenizers.Sequence([*stages, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.normalizer = normalizers.NFC()
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                                     special_tokens=["<|begin|>", "<|end|>"], show_progress=False))
    t.add_tokens([AddedToken("<mask>", lstrip=True), AddedToken("<right>", rstrip=True), AddedToken("fox", single_word=True)])
    t.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", t.token_to_id("<|begin|>"))])
    return t


def of_characters():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    specials = ["<unk>", "<|begin|>", "<|end|>"]
    t.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=700, special_tokens=[*specials, *(f"<0x{b:02X}>" for b in range(256))],
                                                     show_progress=False))
    j = json.loads(t.to_str())
    j["pre_tokenizer"] = None
    j["added_tokens"] = [a for a in j["added_tokens"] if a["content"] in specials]
    t = Tokenizer.from_str(json.dumps(j))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return t


def main():
    vectors = {}
    for name, make in (("bytes", of_bytes), ("characters", of_characters)):
        t = make()
        t.save(str(HERE / f"{name}.json"), pretty=False)
        for kind in ("text", "tokens"):
            t.encode_special_tokens = kind == "text"
            vectors[f"{name} {kind}"] = [{"text": s, "ids": t.encode(s, add_special_tokens=False).ids} for s in STRINGS]
    lines = [f"{json.dumps(k)}: [\n" + ",\n".join(json.dumps(v) for v in vs) + "]" for k, vs in vectors.items()]
    (HERE / "vectors.json").write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
