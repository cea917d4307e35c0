"""What transformers makes of tiny random models, for parity.py, which starts this inside an environment with transformers 4 or 5.

usage: reference.py JOBS.json      a list of {"do": "make" | "load" | "encode", ...}; one process for all, since imports take seconds
"""
import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy
import safetensors.torch
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


def add_prediction(job, config):
    """A further layer as DeepSeek-V3's files have it, which transformers themselves do not make: random, with the copies."""
    folder = pathlib.Path(job["folder"])
    files = sorted(folder.glob("*.safetensors"))
    tensors = {name: tensor for file in files for name, tensor in safetensors.torch.load_file(file).items()}
    last, here = f"model.layers.{config.num_hidden_layers - 1}.", f"model.layers.{config.num_hidden_layers}."
    width = config.hidden_size
    further = {here + name[len(last):]: tensor for name, tensor in tensors.items() if name.startswith(last)}
    for name, shape in (("enorm", (width,)), ("hnorm", (width,)), ("shared_head.norm", (width,)), ("eh_proj", (width, 2 * width))):
        further[f"{here}{name}.weight"] = torch.empty(shape)
    further = {name: torch.randn_like(tensor) for name, tensor in further.items()}
    further[here + "embed_tokens.weight"] = tensors["model.embed_tokens.weight"].clone()
    further[here + "shared_head.head.weight"] = tensors["lm_head.weight"].clone()
    for file in [*files, *folder.glob("*.index.json")]:
        file.unlink()
    safetensors.torch.save_file({**tensors, **further}, folder / "model.safetensors", metadata={"format": "pt"})
    written = json.loads((folder / "config.json").read_text())
    written.pop("num_mtp_layers", None)
    (folder / "config.json").write_text(json.dumps({**written, "num_nextn_predict_layers": 1}))


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
    if job["predicts_further"]:
        add_prediction(job, config)
    pathlib.Path(job["folder"], "tokenizer.json").write_text(job["tokenizer"])
    return record(job, model.float())


def load(job):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(job["folder"], output_loading_info=True, dtype=torch.float32)
    wrong = {key: sorted(map(str, info[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info.get(key)}
    return {**record(job, model.eval()), "wrong": wrong, "class": type(model).__name__}


def encode(job):
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["folder"])
    ids = tokenizer(job["text"], add_special_tokens=False)["input_ids"]
    return {"ids": ids, "text": tokenizer.decode(ids)}


def main():
    jobs = json.loads(pathlib.Path(sys.argv[1]).read_text())
    results = [{"make": make, "load": load, "encode": encode}[job["do"]](job) for job in jobs]
    pathlib.Path(sys.argv[1] + ".results").write_text(json.dumps({"version": transformers.__version__, "torch": torch.__version__, "results": results}))


main()
