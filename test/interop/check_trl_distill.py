"""Runs TRL's own GKD loss and trainer on what webrlhf was given, and prints what they compute.

Usage: python check_trl_distill.py losses request.json   generalized_jsd_loss and its gradient in the student's logits, in float64
       python check_trl_distill.py runs request.json     loss and gradient norm of every step of training runs

A request of runs holds the folders of student and teacher, and runs: the micro-batches of every step as token ids, settings, and a
folder to save the weights in. A JSON document goes to stdout.
"""

import json
import os
import sys
import tempfile
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
warnings.filterwarnings("ignore")

import torch  # noqa: E402
from trl.experimental.gkd import GKDConfig, GKDTrainer  # noqa: E402

torch.set_num_threads(1)


def losses(request):
    teacher = torch.tensor(request["teacher"], dtype=torch.float64)
    found = []
    for case in request["cases"]:
        student = torch.tensor(request["student"], dtype=torch.float64, requires_grad=True)
        loss = GKDTrainer.generalized_jsd_loss(
            student, teacher, beta=case["beta"], temperature=case["temperature"], reduction="sum"
        )
        loss.backward()
        found.append({"loss": loss.item(), "gradient": student.grad.flatten().tolist()})
    return found


def batch(rows):
    """Token ids as they are, padded on the right; prompts are not learned."""
    width = max(len(r["prompt"]) + len(r["completion"]) for r in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, r in enumerate(rows):
        own = torch.tensor(r["prompt"] + r["completion"])
        ids[i, : len(own)] = own
        mask[i, : len(own)] = 1
        labels[i, len(r["prompt"]) : len(own)] = own[len(r["prompt"]) :]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def run(one, request):
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    vocabulary = {f"w{i}": i for i in range(request["vocab_size"])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="w0")), pad_token="w0", eos_token="w1", unk_token="w0"
    )
    load = lambda name: AutoModelForCausalLM.from_pretrained(request[name], dtype=torch.float32)
    parts = [part for step in one["steps"] for part in step]

    class Given(GKDTrainer):
        def __init__(self, *args, **kwargs):
            self.steps, self.losses = [], []
            super().__init__(*args, **kwargs)

        def get_train_dataloader(self):
            return [batch(part) for part in parts]

        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            self.losses.append(float(loss))
            return loss

        def log(self, logs, *args, **kwargs):
            if "grad_norm" in logs:
                numbers = {"grad_norm": float(logs["grad_norm"]), "learning_rate": logs["learning_rate"]}
                self.steps.append({"loss": sum(self.losses), **numbers})
                self.losses = []
            return super().log(logs, *args, **kwargs)

    config = GKDConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to="none", logging_steps=1, save_strategy="no",
        per_device_train_batch_size=len(parts[0]), gradient_accumulation_steps=len(one["steps"][0]), max_steps=len(one["steps"]),
        gradient_checkpointing=False, disable_tqdm=True, lmbda=0.0, **one["settings"],
    )  # fmt: skip
    trainer = Given(
        model=load("student"), teacher_model=load("teacher"), args=config, processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"messages": []} for _ in parts for _ in parts[0]]),
    )  # fmt: skip
    trainer.train()
    trainer.model.save_pretrained(one["out"])
    return trainer.steps


def runs(request):
    import trl

    return {"version": trl.__version__, "runs": [run(one, request) for one in request["runs"]]}


if __name__ == "__main__":
    mode, file = sys.argv[1:]
    out = sys.stdout
    sys.stdout = sys.stderr
    with open(file) as f:
        request = json.load(f)
    result = losses(request) if mode == "losses" else runs(request)
    json.dump(result, out)
