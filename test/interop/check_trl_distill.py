"""Runs TRL's own GKD loss and trainer on what webrlhf was given, and prints what they compute.

Usage: python check_trl_distill.py losses request.json   generalized_jsd_loss and its gradient in the student's logits, in float64
       python check_trl_distill.py runs request.json     loss and gradient norm of every step of training runs

A request of runs holds the folders of student and teacher, and runs: the micro-batches of every step as token ids, settings, and a
folder to save the weights in. A JSON document goes to stdout.
"""

import torch
from trl_runs import answer, load, numbers_tokenizer, passes, recorded, settings
from trl.experimental.gkd import GKDConfig, GKDTrainer


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

    parts = [part for step in one["steps"] for part in step]

    class Given(recorded(GKDTrainer, metrics=False)):
        def get_train_dataloader(self):
            return [batch(part) for part in parts]

    config = GKDConfig(**settings(max_steps=len(one["steps"]), lmbda=0.0, **passes(one["steps"]), **one["settings"]))
    trainer = Given(
        model=load(request["student"]), teacher_model=load(request["teacher"]), args=config,
        processing_class=numbers_tokenizer(request["vocab_size"]),
        train_dataset=Dataset.from_list([{"messages": []} for _ in parts for _ in parts[0]]),
    )  # fmt: skip
    trainer.train()
    trainer.model.save_pretrained(one["out"])
    return trainer.steps


if __name__ == "__main__":
    answer(losses, run)
