"""What transformers makes of tiny random models, for parity.py, which starts this inside an environment with transformers 4 or 5.

usage: reference.py JOBS.json      a list of {"do": "make" | "load", ...}; one process for all, since imports take seconds
"""
import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy
import torch
import torch.nn.functional as F
import transformers

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)


def loss_and_logits(model, batch):
    """batch: (sequences, length + 1); the last token of each is a target alone."""
    tokens = torch.from_numpy(numpy.load(batch)).long()
    with torch.no_grad():
        logits = model(tokens[:, :-1]).logits.float()
    loss = F.cross_entropy(logits.double().flatten(0, 1), tokens[:, 1:].flatten())
    return loss.item(), logits.numpy()


def record(job, model):
    loss, logits = loss_and_logits(model, job["batch"])
    numpy.save(job["logits"], logits)
    return {"loss": loss}


def make(job):
    torch.manual_seed(job["seed"])
    config = transformers.AutoConfig.for_model(job["type"], **job["config"])
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:  # all ones would hide a norm that is left out
                weight.copy_(1 + 0.3 * torch.randn_like(weight))
        for name, buffer in model.named_buffers():
            if "e_score_correction_bias" in name:
                buffer.copy_(0.1 * torch.randn_like(buffer))
    for weight in model.parameters():  # not .to(), which would round the rotary frequencies as well
        weight.data = weight.data.to(getattr(torch, job["dtype"]))
    model = model.eval()
    model.save_pretrained(job["folder"], max_shard_size=job["shard_size"], safe_serialization=True)
    pathlib.Path(job["folder"], "tokenizer.json").write_text(job["tokenizer"])
    return record(job, model.float())


def load(job):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(job["folder"], output_loading_info=True, dtype=torch.float32)
    wrong = {key: sorted(map(str, info[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info.get(key)}
    return {**record(job, model.eval()), "wrong": wrong, "class": type(model).__name__}


def main():
    jobs = json.loads(pathlib.Path(sys.argv[1]).read_text())
    results = [make(job) if job["do"] == "make" else load(job) for job in jobs]
    pathlib.Path(sys.argv[1] + ".results").write_text(json.dumps({"version": transformers.__version__, "torch": torch.__version__, "results": results}))


main()
