#!/usr/bin/env python3
"""An oracle that is not ours: trains small models with the program, and the same from the same initial weights in
PyTorch, in fp64, and holds losses and gradient norms of the steps against each other. docs/testing.md.

usage: torch_oracle.py PROGRAM [CASE...]      exit code 0: they agree; 1: they do not; 77: there is no PyTorch
"""
import json
import math
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    # That of tests/hf/setup, if it is there.
    environments = os.environ.get("JEVONS_HF_ENVIRONMENTS") or pathlib.Path(__file__).resolve().parents[2] / "build/hf"
    other = pathlib.Path(environments) / "torch/bin/python"
    if other.exists() and pathlib.Path(sys.prefix).resolve() != other.parents[1].resolve():
        os.execv(other, [str(other), *sys.argv])
    print(f"skipped: PyTorch cannot be imported ({error}); on Debian: apt install python3-torch")
    sys.exit(77)

STEPS = 5
SEQUENCES, LENGTH, VOCABULARY = 8, 32, 64
RATE, BETA1, BETA2, EPSILON, DECAY, CLIP = 5e-3, 0.9, 0.95, 1e-8, 0.1, 1.0
# fp32 against fp64, relative. Measured: at most 9e-7 and 6e-6, at step 1 3e-8; steps amplify.
LOSS_BOUND, NORM_BOUND = 4e-6, 3e-5

BASE = dict(vocab_size=VOCABULARY, num_layers=2, hidden_size=48, ffn_hidden_size=72, num_heads=4, num_kv_heads=2,
            head_dim=16, seq_len=LENGTH, init_std=0.1)
EXPERTS = dict(num_experts=8, top_k=2, expert_hidden_size=24)

# name: model, experts, router, document mask
CASES = {
    "dense": (dict(tie_embeddings=True, qk_norm="head"), {}, {}, True),
    "dense-hidden-norm": (dict(qk_norm="hidden", num_kv_heads=4, rope=dict(theta=500.0)), {}, {}, False),
    "softmax": (dict(), dict(balance_loss=0.02, z_loss=0.01), dict(scaling_factor=1.5), False),
    "top-k-first": (dict(tie_embeddings=True), dict(global_balance_loss=0.02, dispatch_chunks=2),
                    dict(renormalize=False, top_k_before_score=True, groups=2, groups_kept=1, group_score="max"), True),
    "sigmoid": (dict(num_layers=3, qk_norm="head"),
                dict(top_k=3, num_shared_experts=2, first_dense_layers=1, sequence_balance_loss=0.02),
                dict(score="sigmoid", selection_bias=True, bias_update_rate=0.01, groups=4, groups_kept=2,
                     scaling_factor=2.5), True),
    "v2": (dict(num_layers=3), dict(top_k=3, num_shared_experts=2, first_dense_layers=1, balance_loss=0.02),
           dict(renormalize=False, scaling_factor=4.0, groups=4, groups_kept=2, group_score="max"), False),
    "sqrt-softplus": (dict(swiglu_limit=2.0), dict(num_shared_experts=1, sequence_balance_loss=0.02),
                      dict(score="sqrt_softplus", scaling_factor=1.5, selection_bias=True, bias_update_rate=0.02), True),
    "mtp": (dict(tie_embeddings=True, mtp=dict(depth=2, loss_weight=0.4)), {}, {}, True),
    "mtp-experts": (dict(qk_norm="head", mtp=dict(depth=1)),
                    dict(num_shared_experts=1, first_dense_layers=1, sequence_balance_loss=0.02),
                    dict(score="sigmoid", selection_bias=True, bias_update_rate=0.01), False),
    "latent": (dict(num_kv_heads=0, head_dim=0,
                    mla=dict(kv_lora_rank=24, q_lora_rank=32, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=12),
                    rope=dict(layout="interleaved", scaling="yarn", factor=4, original_seq_len=8, beta_fast=4, mscale=1,
                              mscale_all_dim=0.8)), {}, {}, True),
    "latent-keys": (dict(num_kv_heads=0, head_dim=0,
                         mla=dict(kv_lora_rank=24, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=12),
                         rope=dict(scaling="llama3", factor=4, original_seq_len=16)), dict(num_shared_experts=1), {}, False),
    "linear": (dict(rope=dict(theta=500.0, scaling="linear", factor=2, layout="interleaved")), {}, {}, False),
    "muon": (dict(), dict(num_shared_experts=1), {}, True),
    "muon-latent": (dict(num_kv_heads=0, head_dim=0,
                         mla=dict(kv_lora_rank=24, q_lora_rank=32, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=12)),
                    {}, {}, False),
}
# Of the cases that do without AdamW alone.
OPTIMIZERS = {
    "muon": dict(kind="muon"),
    "muon-latent": dict(kind="muon", muon=dict(iterations="eight_and_two", momentum=0.9, nesterov=False, update_rms=0.18)),
}


def config_of(case):
    model, experts, router, mask = CASES[case]
    model = {**BASE, **model}
    if experts:
        model["moe"] = {**EXPERTS, **experts, "router": router}
    return dict(name="oracle", device="cpu", threads=1, model=model,
                data=dict(train=[dict(path="corpus")], validation_fraction=0, document_mask=mask),
                optimizer=dict(lr=RATE, beta1=BETA1, beta2=BETA2, eps=EPSILON, weight_decay=DECAY, clip_norm=CLIP,
                               **OPTIMIZERS.get(case, {})),
                schedule=dict(kind="constant"),
                train=dict(steps=STEPS, global_batch_size=SEQUENCES, micro_batch_size=SEQUENCES))


class Corpus:
    """As many tokens as one batch reads, so that every batch holds the same samples, in whatever order."""

    def __init__(self):
        rng = random.Random(3)
        count = SEQUENCES * LENGTH + 1
        self.ids, self.lengths = [1], []
        while len(self.ids) < count:  # a token mostly decides the next one
            self.ids.append((self.ids[-1] * 5 + 3) % VOCABULARY if rng.random() < 0.7 else rng.randrange(VOCABULARY))
        while sum(self.lengths) < count:
            self.lengths.append(min(rng.randrange(5, 40), count - sum(self.lengths)))

    def write(self, directory):
        """A Megatron pair of one byte a token."""
        (directory / "corpus.bin").write_bytes(bytes(self.ids))
        begins = [sum(self.lengths[:i]) for i in range(len(self.lengths))]
        n = len(begins)
        (directory / "corpus.idx").write_bytes(
            b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 1, n, n + 1) + struct.pack(f"<{n}i", *self.lengths)
            + struct.pack(f"<{n}q", *begins) + struct.pack(f"<{n + 1}q", *range(n + 1)))

    def batch(self, mask):
        """tokens, targets (-1: none) and what every token sees, a matrix for each sequence."""
        document = [d for d, length in enumerate(self.lengths) for _ in range(length)]
        tokens, targets, sees = [], [], []
        for first in range(0, SEQUENCES * LENGTH, LENGTH):
            places = range(first, first + LENGTH)
            tokens.append([self.ids[t] for t in places])
            targets.append([-1 if mask and document[t] != document[t + 1] else self.ids[t + 1] for t in places])
            sees.append([[s <= t and (not mask or document[s] == document[t]) for s in places] for t in places])
        return torch.tensor(tokens), torch.tensor(targets), torch.tensor(sees)


def read_weights(path):
    """Whole fp32 tensors of a safetensors file, without moments and selection biases, in fp64."""
    data = path.read_bytes()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    weights = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name == "__metadata__" or name.startswith("optim.") or name.endswith(".router.bias"):
            continue
        assert entry["dtype"] == "F32" and "@" not in name, name
        first, last = entry["data_offsets"]
        values = torch.frombuffer(bytearray(data[begin + first:begin + last]), dtype=torch.float32)
        weights[name] = values.reshape(entry["shape"]).double().requires_grad_(True)
    return weights


class Oracle:
    def __init__(self, config, weights):
        self.model, self.w = config["model"], weights
        self.eps = self.model.get("norm_eps", 1e-5)
        optimizer = config["optimizer"]
        self.muon = optimizer.get("muon", {}) if optimizer.get("kind") == "muon" else None
        self.biases = {}  # by layer
        self.loads = {}
        self.rope, self.mla = self.model.get("rope", {}), self.model.get("mla")
        speed, size = self.frequencies(self.mla["qk_rope_head_dim"] if self.mla else self.model["head_dim"])
        angle = torch.arange(LENGTH, dtype=torch.float64)[:, None] * speed
        self.cos, self.sin = size * angle.cos(), size * angle.sin()

    def magnitude(self, mscale):
        return 0.1 * mscale * math.log(self.rope["factor"]) + 1

    def frequencies(self, dim):
        """Of the pairs, and the factor of cosines and sines."""
        theta, kind = self.rope.get("theta", 10000.0), self.rope.get("scaling", "none")
        plain = theta ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
        if kind == "none":
            return plain, 1.0
        factor = self.rope["factor"]
        if kind == "linear":
            return plain / factor, 1.0
        original = self.rope["original_seq_len"]
        if kind == "llama3":
            turns = original * plain / (2 * math.pi)
            kept = ((turns - 1) / (4 - 1)).clamp(0, 1)
            return plain / factor * (1 - kept) + plain * kept, 1.0
        ends = [dim * math.log(original / (2 * math.pi * beta)) / (2 * math.log(theta))
                for beta in (self.rope.get("beta_fast", 32), self.rope.get("beta_slow", 1))]
        low, high = max(math.floor(ends[0]), 0), min(math.ceil(ends[1]), dim - 1)
        ramp = ((torch.arange(dim // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
        return (plain / factor * ramp + plain * (1 - ramp),
                self.magnitude(self.rope["mscale"]) / self.magnitude(self.rope["mscale_all_dim"]))

    def norm(self, x, name, eps=None):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + (eps or self.eps)) * self.w[name]

    def rotate(self, x):
        interleaved = self.rope.get("layout") == "interleaved"
        low, high = (x[..., ::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
        turned = low * self.cos - high * self.sin, low * self.sin + high * self.cos
        return torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)

    def latent_attention(self, x, name, sees):
        m, heads = self.mla, self.model["num_heads"]
        plain, rotated, kv = m["qk_nope_head_dim"], m["qk_rope_head_dim"], m["kv_lora_rank"]

        def by_head(t):
            return t.view(SEQUENCES, LENGTH, heads, -1).transpose(1, 2)

        if m.get("q_lora_rank"):
            latent = self.norm(F.linear(x, self.w[name + ".q_a"]), name + ".q_a_norm", 1e-6)
            q = by_head(F.linear(latent, self.w[name + ".q_b"]))
        else:
            q = by_head(F.linear(x, self.w[name + ".q"]))
        down = F.linear(x, self.w[name + ".kv_a"])
        up = by_head(F.linear(self.norm(down[..., :kv], name + ".kv_a_norm", 1e-6), self.w[name + ".kv_b"]))
        shared = self.rotate(down[..., kv:])
        score = torch.einsum("bhti,bhsi->bhts", q[..., :plain], up[..., :plain])
        score = score + torch.einsum("bhti,bsi->bhts", self.rotate(q[..., plain:]), shared)
        score = score / math.sqrt(plain + rotated)
        if self.rope.get("mscale_all_dim"):
            score = score * self.magnitude(self.rope["mscale_all_dim"]) ** 2
        share = score.masked_fill(~sees[:, None], -math.inf).softmax(-1)
        mixed = torch.einsum("bhts,bhsi->bthi", share, up[..., plain:]).flatten(2)
        return F.linear(mixed, self.w[name + ".o"])

    def attention(self, x, name, sees):
        if self.mla:
            return self.latent_attention(x, name, sees)
        heads, kv, d = self.model["num_heads"], self.model["num_kv_heads"], self.model["head_dim"]
        q, k, v = (F.linear(x, self.w[f"{name}.{part}"]) for part in "qkv")
        kind = self.model.get("qk_norm", "none")
        if kind == "hidden":
            q, k = self.norm(q, name + ".q_norm"), self.norm(k, name + ".k_norm")
        q, k, v = (t.view(SEQUENCES, LENGTH, -1, d).transpose(1, 2) for t in (q, k, v))
        if kind == "head":
            q, k = self.norm(q, name + ".q_norm"), self.norm(k, name + ".k_norm")
        q, k = self.rotate(q), self.rotate(k)
        k, v = (t.repeat_interleave(heads // kv, dim=1) for t in (k, v))
        score = torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(d)
        share = score.masked_fill(~sees[:, None], -math.inf).softmax(-1)
        mixed = torch.einsum("bhts,bhsd->bthd", share, v).reshape(SEQUENCES, LENGTH, heads * d)
        return F.linear(mixed, self.w[name + ".o"])

    def ffn(self, x, name):
        gate, up = F.linear(x, self.w[name + ".gate"]), F.linear(x, self.w[name + ".up"])
        limit = self.model.get("swiglu_limit")
        if limit:
            gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
        return F.linear(F.silu(gate) * up, self.w[name + ".down"])

    def choose(self, ranked, moe):
        router = moe["router"]
        groups, kept = router.get("groups", 1), router.get("groups_kept", 1)
        if kept < groups:
            by_group = ranked.view(len(ranked), groups, -1)
            best = 1 if router.get("group_score") == "max" else 2
            worth = by_group.topk(best, -1).values.sum(-1)
            open_groups = torch.zeros_like(worth, dtype=torch.bool).scatter_(1, worth.topk(kept, -1).indices, True)
            ranked = by_group.masked_fill(~open_groups[..., None], -math.inf).view_as(ranked)
        return ranked.topk(moe["top_k"], -1).indices

    def moe(self, x, layer):
        """The layer's output, and its part of what is minimised beside the loss."""
        moe, name = self.model["moe"], f"layers.{layer}.moe"
        router, experts = moe["router"], moe["num_experts"]
        rows = x.reshape(-1, x.shape[-1])
        logits = F.linear(rows, self.w[name + ".router"])
        score = router.get("score")
        scores = (logits.sigmoid() if score == "sigmoid" else F.softplus(logits).sqrt() if score == "sqrt_softplus"
                  else logits.softmax(-1))
        by_logit = router.get("top_k_before_score", False)
        bias = self.biases.setdefault(layer, torch.zeros(experts, dtype=torch.float64))
        chosen = self.choose((logits if by_logit else scores).detach() + bias, moe)
        weight = logits.gather(1, chosen).softmax(-1) if by_logit else scores.gather(1, chosen)
        if router.get("renormalize", True):
            weight = weight / weight.sum(-1, keepdim=True)
        weight = weight * router.get("scaling_factor", 1.0)
        spread = torch.zeros_like(scores).scatter(1, chosen, weight)  # (T, E)
        out = sum(spread[:, e, None] * self.ffn(rows, f"{name}.experts.{e}") for e in range(experts))
        if moe.get("num_shared_experts"):
            out = out + self.ffn(rows, name + ".shared")
        took = torch.zeros_like(scores).scatter(1, chosen, 1.0)
        self.loads[layer] = took.sum(0)
        return out.view_as(x), self.beside(logits, scores / scores.sum(-1, keepdim=True), took)

    def beside(self, logits, share, took):
        moe = self.model["moe"]

        def balance(coefficient, sets):
            if not moe.get(coefficient):
                return 0.0
            parts = (t.view(sets, -1, t.shape[-1]) for t in (took, share))
            load, mean = (t.mean(1) for t in parts)
            return moe[coefficient] * moe["num_experts"] / moe["top_k"] * (load * mean).sum(-1).mean()

        total = balance("balance_loss", 1) + balance("global_balance_loss", 1)
        total = total + balance("sequence_balance_loss", SEQUENCES)
        if moe.get("z_loss"):
            total = total + moe["z_loss"] * logits.logsumexp(-1).square().mean()
        return total

    def block(self, x, layer, sees):
        """The layer's output, and its part of what is minimised beside the loss."""
        first_moe = self.model["moe"].get("first_dense_layers", 0) if "moe" in self.model else math.inf
        name = f"layers.{layer}"
        x = x + self.attention(self.norm(x, name + ".attn_norm"), name + ".attn", sees)
        y = self.norm(x, name + ".ffn_norm")
        if layer < first_moe:
            return x + self.ffn(y, name + ".ffn"), 0.0
        out, more = self.moe(y, layer)
        return x + out, more

    def predict(self, rows, targets):
        logits = F.linear(rows, self.w["embedding" if self.model.get("tie_embeddings") else "lm_head"])
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def forward(self, tokens, targets, sees):
        """The loss, what is minimised beside it, and the losses of multi-token prediction."""
        x, beside, mtp = self.w["embedding"][tokens], 0.0, []
        layers = self.model["num_layers"]
        for layer in range(layers):
            x, more = self.block(x, layer, sees)
            beside = beside + more
        h = self.norm(x, "final_norm")
        loss = self.predict(h, targets)
        depth = self.model.get("mtp", {}).get("depth", 0)
        for layer in range(layers, layers + depth):
            by, name = layer - layers + 1, f"layers.{layer}.mtp"
            # A row whose sequence ends before has its own token; it has no target, and no other row sees it.
            ids = torch.cat((tokens[:, by:], tokens[:, -by:]), 1)
            ahead = torch.cat((targets[:, by:], torch.full_like(targets[:, :by], -1)), 1)
            for t in range(LENGTH - by):
                ahead[~sees[:, t + by, t], t] = -1
            both = torch.cat((self.norm(self.w["embedding"][ids], name + ".enorm"), self.norm(h, name + ".hnorm")), -1)
            y, more = self.block(F.linear(both, self.w[name + ".eh_proj"]), layer, sees)
            h = self.norm(y, name + ".norm")
            mtp.append(self.predict(h, ahead))
            beside = beside + more + self.model["mtp"].get("loss_weight", 0.3) / depth * mtp[-1]
        return loss, beside, mtp

    def move_biases(self):
        router = self.model["moe"]["router"] if "moe" in self.model else {}
        if not router.get("selection_bias"):
            return
        for layer, load in self.loads.items():
            self.biases[layer] += router["bias_update_rate"] * torch.sign(load.mean() - load)

    def row_blocks(self, name, w):
        """The heights of the matrices below one another in a weight; none if Muon leaves it to AdamW."""
        if w.dim() < 2 or name in ("embedding", "lm_head") or name.endswith(".router"):
            return []
        mla = self.model.get("mla", {})
        heights = {"q_b": [mla.get("qk_nope_head_dim", 0) + mla.get("qk_rope_head_dim", 0)],
                   "kv_b": [mla.get("qk_nope_head_dim"), mla.get("v_head_dim")]}.get(name.split(".")[-1], [w.shape[0]])
        return heights * (w.shape[0] // sum(heights))

    def orthogonal(self, u):
        x, steep = u / (u.norm() + 1e-7), (3.4445, -4.7750, 2.0315)
        ten = self.muon.get("iterations") == "eight_and_two"
        for a, b, c in [steep] * 8 + [(2, -1.5, 0.5)] * 2 if ten else [steep] * 5:
            s = x @ x.T
            x = a * x + (b * s + c * s @ s) @ x
        return x * self.muon.get("update_rms", 0.2) * math.sqrt(max(u.shape))

    def move_by_muon(self, w, g, momentum, heights):
        mu = self.muon.get("momentum", 0.95)
        momentum.mul_(mu).add_(g)
        u = g + mu * momentum if self.muon.get("nesterov", True) else momentum
        w.mul_(1 - RATE * DECAY).sub_(RATE * torch.cat([self.orthogonal(part) for part in u.split(heights)]))

    def train(self, batch):
        """[loss, gradient norm, losses of multi-token prediction] of every step."""
        first = {name: torch.zeros_like(w) for name, w in self.w.items()}
        second = {name: torch.zeros_like(w) for name, w in self.w.items()}
        for step in range(1, STEPS + 1):
            loss, beside, mtp = self.forward(*batch)
            # A weight without a token has a gradient of 0: it decays, and its moments go on.
            gradients = torch.autograd.grad(loss + beside, list(self.w.values()), allow_unused=True)
            gradients = [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, self.w.values())]
            norm = math.sqrt(sum(float((g * g).sum()) for g in gradients))
            yield [loss.item(), norm, *(one.item() for one in mtp)]
            scale = CLIP / norm if norm > CLIP else 1.0
            with torch.no_grad():
                for (name, w), g in zip(self.w.items(), gradients):
                    if self.muon is not None and self.row_blocks(name, w):
                        self.move_by_muon(w, g * scale, first[name], self.row_blocks(name, w))
                        continue
                    m = first[name].mul_(BETA1).add_(g * scale, alpha=1 - BETA1)
                    v = second[name].mul_(BETA2).add_((g * scale) ** 2, alpha=1 - BETA2)
                    root = (v / (1 - BETA2 ** step)).sqrt() + EPSILON
                    if w.dim() > 1:
                        w.mul_(1 - RATE * DECAY)
                    w.sub_(RATE / (1 - BETA1 ** step) * m / root)
            self.move_biases()


def program_steps(program, directory, config):
    """The initial weights, and [loss, gradient norm, losses of multi-token prediction] of every step."""
    (directory / "run.yaml").write_text(json.dumps(config))

    def train(run, *options):
        command = [program, "train", "run.yaml", f"run_dir={run}", *options]
        done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")

    train("initial", "train.steps=1", "optimizer.lr=1e-30")  # its step moves no weight
    train("trained", "checkpoint.final_save=false")
    weights = read_weights(directory / "initial/checkpoints/step-00000001/rank-00000.safetensors")
    records = [json.loads(line) for line in (directory / "trained/metrics.jsonl").read_text().splitlines()]
    return weights, [[r["loss"], r["grad_norm"], *r.get("mtp_losses", [])] for r in records if r["kind"] == "step"]


def agrees(program, case):
    config = config_of(case)
    corpus = Corpus()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        corpus.write(directory)
        weights, ours = program_steps(program, directory, config)
    assert len(ours) == STEPS, ours
    good = True
    print(f"{case}\n  step  loss of PyTorch      of jevons  relative  norm of PyTorch  of jevons  relative")
    for step, (theirs, mine) in enumerate(zip(Oracle(config, weights).train(corpus.batch(CASES[case][3])), ours), 1):
        off = [abs(a - b) / abs(a) for a, b in zip(theirs, mine)]
        fits = len(theirs) == len(mine) and all(o <= (NORM_BOUND if i == 1 else LOSS_BOUND) for i, o in enumerate(off))
        good = good and fits
        print(f"  {step:4} {theirs[0]:16.9f} {mine[0]:14.9f}  {off[0]:8.1e} {theirs[1]:16.7f} {mine[1]:10.7f}  {off[1]:8.1e}"
              + "".join(f"  mtp {b:.7f} {o:7.1e}" for b, o in zip(mine[2:], off[2:])) + ("" if fits else "  DIFFERS"))
    return good


def main():
    torch.set_num_threads(1)
    program = str(pathlib.Path(sys.argv[1]).resolve())
    wrong = [case for case in sys.argv[2:] or CASES if not agrees(program, case)]
    if wrong:
        sys.exit(f"not as PyTorch has them: {', '.join(wrong)}")


main()
