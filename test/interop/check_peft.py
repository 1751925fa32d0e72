"""Opens adapters that webrlhf wrote with Hugging Face PEFT, writes some of its own, and prints what they compute.

Usage: python check_peft.py request.json

The request holds `ids` (token sequences) and `jobs`. {"open": folder, "base": folder} opens an adapter folder on a base.
{"write": folder, "base": folder, "config": {...}, "seed": n} makes a PEFT adapter with random weights and saves it.
{"train": folder, "base": folder} gives the loss over all tokens and its gradient in the adapter. {"plain": folder} opens a model
folder without adapters. One JSON line per job: {"logits": [...], "merged": [...]}, where
`merged` are the logits after PEFT's own merge_and_unload. Tensors that are missing or left over are errors.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")

import torch  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from peft.utils import get_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification  # noqa: E402

torch.set_num_threads(1)


def base_model(folder: str, scorer: bool):
    cls = AutoModelForSequenceClassification if scorer else AutoModelForCausalLM
    return cls.from_pretrained(folder, **({"num_labels": 1} if scorer else {})).double().eval()


def compute(model, ids: list) -> list:
    with torch.no_grad():
        return [model(torch.tensor([s])).logits[0].tolist() for s in ids]


def opened(job: dict):
    config = json.loads((Path(job["open"]) / "adapter_config.json").read_text())
    model = PeftModel.from_pretrained(base_model(job["base"], config["task_type"] == "SEQ_CLS"), job["open"])
    expected = get_peft_model_state_dict(model)
    found = load_file(str(Path(job["open"]) / "adapter_model.safetensors"))
    if {k: v.shape for k, v in expected.items()} != {k: v.shape for k, v in found.items()}:
        raise SystemExit(f"{job['open']}: tensors differ: {sorted(set(expected) ^ set(found))}")
    return model.double().eval()


def written(job: dict):
    torch.manual_seed(job["seed"])
    options = LoraConfig(**job["config"])
    model = get_peft_model(base_model(job["base"], options.task_type == "SEQ_CLS"), options).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.copy_((p + 0.1 * torch.randn(p.shape)).float().double())
    model.float().save_pretrained(job["write"])
    return model.double()


def trained(job: dict, ids: list) -> dict:
    model = PeftModel.from_pretrained(base_model(job["base"], False), job["train"], is_trainable=True).double().eval()
    loss = sum(model(torch.tensor([s]), labels=torch.tensor([s])).loss * (len(s) - 1) for s in ids if len(s) > 1)
    loss.backward()
    grads = {name.replace(".default", ""): p.grad for name, p in model.named_parameters() if p.requires_grad}
    named = {name.removesuffix(".weight") if "magnitude" in name else name: g.flatten().tolist() for name, g in grads.items()}
    return {"loss": loss.item(), "gradients": named}


def run(job: dict, ids: list) -> dict:
    if "plain" in job:
        architecture = AutoConfig.from_pretrained(job["plain"]).architectures[0]
        return {"logits": compute(base_model(job["plain"], architecture.endswith("SequenceClassification")), ids)}
    if "train" in job:
        return trained(job, ids)
    model = opened(job) if "open" in job else written(job)
    answer = {"logits": compute(model, ids)}
    answer["merged"] = compute(model.merge_and_unload(), ids)
    return answer


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    for job in request["jobs"]:
        print(json.dumps(run(job, request["ids"])), flush=True)


if __name__ == "__main__":
    main()
