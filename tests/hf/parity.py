#!/usr/bin/env python3
"""Hugging Face folders in and out, held against transformers 4 and 5: each makes tiny random models of every family, whose
logits must be those of the imported ones; what is exported must load in both without a missing or unexpected key and give
these logits again; and training must start at the loss that transformers computes, on one worker and on two.
docs/huggingface.md.

usage: parity.py PROGRAM [CASE...]     exit code 0: they agree; 1: they do not; 77: the environments are not there
       JEVONS_HF_ENVIRONMENTS          directory that tests/hf/setup made; default: build/hf in the source tree
"""
import array
import filecmp
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PLACE = pathlib.Path(os.environ.get("JEVONS_HF_ENVIRONMENTS", ROOT / "build/hf"))
MAKERS = ("t4", "t5")
# fp32 against fp32: of the largest logit; relative for a loss.
LOGITS_BOUND, LOSS_BOUND = 2e-5, 2e-6
SEQUENCES, LENGTH, VOCABULARY = 4, 24, 96

COMMON = dict(vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=64, initializer_range=0.15)
TOKENIZER = json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}})

LATENT = dict(num_key_value_heads=4, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12, intermediate_size=96,
              moe_intermediate_size=32, n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3, first_k_dense_replace=1)

V3 = dict(q_lora_rank=24, n_group=4, topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True, num_nextn_predict_layers=0,
          initializer_range=0.1, rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, mscale=1.0,
                                                   mscale_all_dim=0.8, beta_fast=32.0, beta_slow=1.0), **LATENT)

# name: type, configuration, layouts of two workers that it can have
CASES = {
    "llama": ("llama", dict(intermediate_size=96, rms_norm_eps=1e-5), ("tp", "dp")),
    "llama-tied": ("llama", dict(intermediate_size=96, head_dim=32, tie_word_embeddings=True, rope_theta=5e5,
                                 rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                   original_max_position_embeddings=16)), ("tp",)),
    "mixtral": ("mixtral", dict(intermediate_size=48, num_local_experts=4, num_experts_per_tok=2), ("tp", "ep", "dp")),
    "qwen3": ("qwen3_moe", dict(intermediate_size=96, moe_intermediate_size=32, num_experts=8, num_experts_per_tok=3,
                                head_dim=32, norm_topk_prob=True, mlp_only_layers=[0], rope_theta=1e6), ("tp", "ep")),
    "qwen3-raw": ("qwen3_moe", dict(intermediate_size=96, moe_intermediate_size=32, num_experts=8, num_experts_per_tok=2,
                                    head_dim=16, norm_topk_prob=False,
                                    rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)), ("ep",)),
    "olmoe": ("olmoe", dict(intermediate_size=32, num_experts=8, num_experts_per_tok=2), ("ep",)),
    "deepseek-v2": ("deepseek_v2", dict(q_lora_rank=24, n_group=4, topk_group=2, topk_method="group_limited_greedy",
                                        routed_scaling_factor=4.0, **LATENT), ("tp", "ep")),
    "deepseek-v2-lite": ("deepseek_v2", dict(q_lora_rank=None, topk_method="greedy", **LATENT), ("ep",)),
    "deepseek-v3": ("deepseek_v3", V3, ("tp", "ep", "dp")),
    "deepseek-v3-mtp": ("deepseek_v3", V3, ("ep",)),
    "deepseek-v3-halves": ("deepseek_v3", dict(V3, rope_interleave=False), ("tp",)),
    "olmoe-bf16": ("olmoe", dict(intermediate_size=32, num_experts=8, num_experts_per_tok=2, norm_topk_prob=True), ("ep",)),
}


class Npy:
    """Just enough of NumPy's files for a machine without NumPy."""

    @staticmethod
    def save(path, rows):
        text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
        text += " " * (63 - (10 + len(text)) % 64) + "\n"
        data = array.array("q", [i for row in rows for i in row]).tobytes()
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data)

    @staticmethod
    def floats(path):
        data = path.read_bytes()
        assert data[:8] == b"\x93NUMPY\x01\x00" and b"'descr': '<f4'" in data[:128], path
        return array.array("f", data[10 + struct.unpack("<H", data[8:10])[0]:])


class Wrong(Exception):
    pass


def check(good, what):
    if not good:
        raise Wrong(what)


def run(command, cwd=None):
    done = subprocess.run([str(c) for c in command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Wrong(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def reference(environment, jobs, directory):
    """Results of the jobs, by transformers of this environment."""
    path = directory / f"jobs-{environment}-{len(list(directory.iterdir()))}.json"
    path.write_text(json.dumps(jobs))
    run([PLACE / environment / "bin/python", HERE / "reference.py", path])
    return json.loads(pathlib.Path(str(path) + ".results").read_text())


def off(theirs, ours):
    """The largest difference of two files of logits, relative to the largest logit."""
    a, b = Npy.floats(theirs), Npy.floats(ours)
    check(len(a) == len(b), f"{len(a)} logits in {theirs}, {len(b)} in {ours}")
    return max(abs(x - y) for x, y in zip(a, b)) / max(map(abs, a))


def files_in(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def check_same(a, b, what):
    check(files_in(a) == files_in(b), f"{what}: {files_in(a)} and {files_in(b)}")
    for name in files_in(a):
        check(filecmp.cmp(a / name, b / name, shallow=False), f"{what}: {name} differs")


class Corpus:
    """One batch of tokens, and a token file from which every batch is that one."""

    def __init__(self, directory):
        rng = random.Random(7)
        self.ids = [rng.randrange(VOCABULARY) for _ in range(SEQUENCES * LENGTH + 1)]
        windows = range(0, SEQUENCES * LENGTH, LENGTH)
        self.with_targets, self.tokens = directory / "batch.npy", directory / "tokens.npy"
        Npy.save(self.with_targets, [self.ids[t:t + LENGTH + 1] for t in windows])
        Npy.save(self.tokens, [self.ids[t:t + LENGTH] for t in windows])
        (directory / "corpus.bin").write_bytes(bytes(self.ids))
        (directory / "corpus.idx").write_bytes(b"MMIDIDX\0\0" + struct.pack("<QBQQiqqq", 1, 1, 1, 2, len(self.ids), 0, 0, 1))


class Case:
    def __init__(self, program, name, maker, directory, corpus):
        self.program, self.name, self.maker, self.corpus = program, name, maker, corpus
        self.type, config, self.layouts = CASES[name]
        self.config = {**COMMON, **config}
        self.predicts_further = name.endswith("mtp")
        self.top, self.directory = directory, directory / maker / name
        self.directory.mkdir(parents=True)
        self.folder, self.their_logits = self.directory / "hf", self.directory / "theirs.npy"
        self.said = []

    def make_job(self):
        dtype = "bfloat16" if self.name.endswith("bf16") else "float32"
        return dict(do="make", type=self.type, config=self.config, dtype=dtype, seed=11, predicts_further=self.predicts_further, folder=str(self.folder), shard_size="150KB",
                    tokenizer=TOKENIZER, batch=str(self.corpus.with_targets), logits=str(self.their_logits))

    def jevons(self, *arguments, workers=1):
        start = [] if workers == 1 else [ROOT / "scripts/mpi_env", "mpirun", "-n", workers]
        return run([*start, self.program, *arguments], cwd=self.directory)

    def refused(self, *arguments):
        """The exit code of what must not succeed."""
        command = [str(self.program), *map(str, arguments)]
        return subprocess.run(command, cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode

    def score(self, model, *options, workers=1):
        """Logits by jevons against theirs."""
        ours = self.directory / "ours.npy"
        said = json.loads(self.jevons("score", model, "--ids", self.corpus.tokens, "--logits", ours, *options,
                                      workers=workers).strip().splitlines()[-1])
        check(said["bits_per_byte"] is None and said["target_tokens"] == SEQUENCES * (LENGTH - 1), said)
        distance = off(self.their_logits, ours)
        check(distance <= LOGITS_BOUND, f"score {model} {' '.join(options)}: logits differ by {distance:.1e} of the largest")
        return distance

    def check_in(self):
        """Import: the same model, by any number of workers; the folder itself may be scored."""
        self.jevons("checkpoint", "import", "hf", "imported")
        self.jevons("checkpoint", "import", "hf", "imported2", workers=2)
        check("are equal, bit for bit" in self.jevons("checkpoint", "diff", "imported", "imported2"), "import by two workers")
        check(self.refused("checkpoint", "import", "hf", "imported") == 2, "an import over a checkpoint")
        distances = [self.score("imported"), self.score("hf")]
        for layout in self.layouts:
            distances.append(self.score("hf", *([] if layout == "dp" else [f"parallel.{layout}=2"]), workers=2))
        self.said.append(f"logits {max(distances):.1e}")

    def check_training(self, their_loss):
        """Starts at the loss that transformers computes; a step that moves no weight leaves the model as it was."""
        kept = dict(seq_len=LENGTH)
        config = dict(include="imported/model.yaml", name="run", device="cpu", threads=1, model=kept,
                      data=dict(train=[dict(path=str(self.top / "corpus"))], validation_fraction=0),
                      optimizer=dict(lr=1e-30, weight_decay=0), schedule=dict(kind="constant"),
                      train=dict(steps=1, global_batch_size=SEQUENCES, micro_batch_size=1))
        (self.directory / "run.yaml").write_text(json.dumps(config))
        runs = [("one", 1, [])] + [(layout, 2, [] if layout == "dp" else [f"parallel.{layout}=2"]) for layout in self.layouts]
        runs.append(("zero", 2, ["parallel.zero_stage=1"]))
        check(self.refused("train", "run.yaml", "run_dir=none", "--resume", "imported") == 2, "a resume without optimizer state")
        worst = 0.0
        for run_dir, workers, options in runs:
            source = "hf" if run_dir == "one" else "imported"
            self.jevons("train", "run.yaml", f"run_dir={run_dir}", "--init-from", source, *options, workers=workers)
            records = [json.loads(line) for line in (self.directory / run_dir / "metrics.jsonl").read_text().splitlines()]
            loss = next(r["loss"] for r in records if r["kind"] == "step")
            worst = max(worst, abs(loss - their_loss) / their_loss)
            check(worst <= LOSS_BOUND, f"training on {run_dir} starts at {loss}, transformers at {their_loss}")
            self.jevons("checkpoint", "export", run_dir, f"hf-{run_dir}", "--dtype", "f32", "--shard-mb", "0.1", workers=workers)
            check_same(self.directory / "hf-one", self.directory / f"hf-{run_dir}", f"export from {run_dir}")
        self.said.append(f"first loss {worst:.1e}")

    def check_out(self):
        """Export: imported again it is the same, bit for bit; what came along is there."""
        self.jevons("checkpoint", "export", "imported", "out", "--dtype", "f32", "--shard-mb", "0.1")
        self.jevons("checkpoint", "export", "imported", "out2", "--dtype", "f32", "--shard-mb", "0.1", workers=2)
        check_same(self.directory / "out", self.directory / "out2", "export by two workers")
        self.jevons("checkpoint", "import", "out", "again")
        check("are equal, bit for bit" in self.jevons("checkpoint", "diff", "imported", "again"), "import of the export")
        check((self.directory / "out/tokenizer.json").read_text() == TOKENIZER, "tokenizer.json is not carried along")
        check((self.directory / "out/model.safetensors.index.json").exists(), "out is one file")
        self.jevons("checkpoint", "export", "imported", "out-bf16", "--dtype", "bf16")
        if self.name.endswith("bf16"):
            self.score("out-bf16")

    def load_job(self, environment):
        return dict(do="load", folder=str(self.directory / "out"), batch=str(self.corpus.with_targets),
                    logits=str(self.directory / f"loaded-{environment}.npy"))

    def check_loaded(self, environment, result, version):
        wrong = result["wrong"]
        if self.predicts_further:  # they skip the layer, and say so unless it is layer 61
            further = f"model.layers.{self.config['num_hidden_layers']}."
            wrong["unexpected_keys"] = [key for key in wrong.get("unexpected_keys", []) if not key.startswith(further)]
        check(not any(wrong.values()), f"transformers {version} loads the export with {wrong}")
        distance = off(self.their_logits, self.directory / f"loaded-{environment}.npy")
        check(distance <= LOGITS_BOUND, f"the export in transformers {version}: logits differ by {distance:.1e}")
        self.said.append(f"export in {version} {distance:.1e}")


def check_own_tokenizers(program, directory):
    """Runs of our own: their exports have the tokenizers of their tokens, which give transformers the same ids."""
    text = "".join(f"In the beginning was word {i % 17}, and the  word wasn't here: naïve 你好.\n" for i in range(400))
    (directory / "book.txt").write_text(text)
    run([program, "data", "train-tokenizer", "book.txt", "--vocab-size", "320", "-o", "tokenizer.json"], cwd=directory)
    jobs, expected = [], []
    for name, tokenizer, vocabulary, width in (("pairs", "tokenizer.json", 320, "H"), ("bytes", "byte", 256, "B")):
        run([program, "data", "prepare", "book.txt", "--tokenizer", tokenizer, "-o", name], cwd=directory)
        config = dict(run_dir=f"{name}-run", device="cpu", threads=1, data=dict(train=[dict(path=name)]), schedule=dict(kind="constant"),
                      model=dict(vocab_size=vocabulary, num_layers=1, hidden_size=16, ffn_hidden_size=16, num_heads=2, seq_len=16),
                      train=dict(steps=1, global_batch_size=1, micro_batch_size=1))
        (directory / f"{name}.yaml").write_text(json.dumps(config))
        run([program, "train", f"{name}.yaml"], cwd=directory)
        run([program, "checkpoint", "export", f"{name}-run", f"{name}-hf"], cwd=directory)
        jobs.append(dict(do="encode", folder=str(directory / f"{name}-hf"), text=text))
        expected.append(array.array(width, (directory / f"{name}.bin").read_bytes())[:-1].tolist())
    for environment in MAKERS:
        found = reference(environment, jobs, directory)
        for job, ids, result in zip(jobs, expected, found["results"]):
            check(result["ids"] == ids, f"{job['folder']}: transformers {found['version']} has other ids")
            check(result["text"] == text, f"{job['folder']}: transformers {found['version']} decodes to another text")
    print("own tokenizers: the same ids in both")


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    for environment in MAKERS:
        if not (PLACE / environment / "complete").exists():
            print(f"skipped: no {PLACE}/{environment}; tests/hf/setup makes it")
            sys.exit(77)
    names = sys.argv[2:] or list(CASES)
    wrong = []
    with tempfile.TemporaryDirectory() as temporary:
        top = pathlib.Path(temporary)
        corpus = Corpus(top)
        cases = [Case(program, name, maker, top, corpus) for maker in MAKERS for name in names]
        losses = {}
        for maker in MAKERS:
            mine = [case for case in cases if case.maker == maker]
            made = reference(maker, [case.make_job() for case in mine], top)
            for case, result in zip(mine, made["results"]):
                losses[case] = result["loss"]
        whole = []
        for case in cases:
            try:
                case.check_in()
                case.check_out()
                case.check_training(losses[case])
                whole.append(case)
            except Wrong as error:
                wrong.append(f"{case.name} by {case.maker}: {error}")
                print(f"WRONG {wrong[-1]}", flush=True)
        for environment in MAKERS:
            loaded = reference(environment, [case.load_job(environment) for case in whole], top)
            for case, result in zip(whole, loaded["results"]):
                try:
                    case.check_loaded(environment, result, loaded["version"])
                except Wrong as error:
                    wrong.append(f"{case.name} by {case.maker}: {error}")
        if not sys.argv[2:]:
            (top / "own").mkdir()
            try:
                check_own_tokenizers(program, top / "own")
            except Wrong as error:
                wrong.append(str(error))
        for case in cases:
            print(f"{case.name:18} made by {case.maker}: {', '.join(case.said)}")
    if wrong:
        sys.exit("\n".join(["not as transformers have them:", *wrong]))


main()
