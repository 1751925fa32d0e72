"""Trains a reward model with TRL's RewardTrainer on tokenised pairs, in their order, and prints every step's figures.

Usage: check_trl_reward.py FOLDER: it holds model/ (a sequence classifier with its tokenizer), pairs.jsonl and options.json, which
has the sizes of the passes (`batches`) and the trainer's settings. The trained weights go to FOLDER/trained.
"""

import json
import sys
from pathlib import Path

import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.set_num_threads(1)
folder = Path(sys.argv[1])
options = json.loads((folder / "options.json").read_text())
pairs = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]


def load():
    return AutoModelForSequenceClassification.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="eager")


def trained() -> dict:
    from datasets import Dataset
    from torch.utils.data import DataLoader
    from trl import RewardConfig, RewardTrainer, __version__

    places = iter(range(len(pairs)))
    batches = [[next(places) for _ in range(size)] for size in options["batches"]]

    class Trainer(RewardTrainer):
        """Takes the pairs in their order, and keeps what a log would round."""

        losses: list = []
        steps: list = []

        def get_train_dataloader(self):
            return DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            self.losses.append(float((found[0] if return_outputs else found).detach()))
            return found

        def log(self, logs, *args, **kwargs):
            if "grad_norm" in logs:
                # TRL takes the mean over the passes of a step also of the smallest and the largest reward
                over = {"min_reward": min, "max_reward": max}
                mean = lambda values: sum(values) / len(values)
                metrics = {name: over.get(name, mean)(values) for name, values in self._metrics["train"].items()}
                self.steps.append({**metrics, "grad_norm": float(logs["grad_norm"]), "learning_rate": logs["learning_rate"]})
            return super().log(logs, *args, **kwargs)

    trainer = Trainer(
        model=load(),
        args=RewardConfig(
            output_dir=str(folder / "out"), num_train_epochs=1, logging_steps=1, report_to="none", save_strategy="no", use_cpu=True,
            bf16=False, fp16=False, gradient_checkpointing=False, max_length=None, disable_dropout=True, **options["trainer"],
        ),  # fmt: skip
        train_dataset=Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
    )
    trainer.losses.clear()
    trainer.train()
    passes = options["trainer"]["gradient_accumulation_steps"]
    losses = [sum(trainer.losses[i : i + passes]) / passes for i in range(0, len(trainer.losses), passes)]
    trainer.model.save_pretrained(folder / "trained")
    return {"version": __version__, "steps": [{"loss": loss, **step} for loss, step in zip(losses, trainer.steps, strict=True)]}


def token_wise() -> dict:
    """safe-rlhf's token-wise loss of all pairs at once: right padding with an attention mask, every position has a score."""
    model = load().double()
    model.get_input_embeddings().padding_idx = None  # transformers would keep the padding's embedding from learning
    width = max(len(ids) for pair in pairs for ids in (pair["chosen_ids"], pair["rejected_ids"]))
    sides = {}
    for side in ("chosen_ids", "rejected_ids"):
        ids = torch.full((len(pairs), width), options["padId"])
        mask = torch.zeros_like(ids)
        for i, pair in enumerate(pairs):
            ids[i, : len(pair[side])] = torch.tensor(pair[side])
            mask[i, : len(pair[side])] = 1
        hidden = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        sides[side] = model.score(hidden).squeeze(-1)
    losses = []
    for i, pair in enumerate(pairs):
        a, b = pair["chosen_ids"], pair["rejected_ids"]
        first = next((t for t, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        span = slice(first, max(len(a), len(b)))
        w, r = sides["chosen_ids"][i, span], sides["rejected_ids"][i, span]
        losses.append(-logsigmoid(w - r).mean() + options["regularization"] * (w.square().mean() + r.square().mean()))
    loss = torch.stack(losses).mean()
    loss.backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in model.parameters() if p.grad is not None))
    return {"loss": float(loss.detach()), "grad_norm": float(norm)}


print(json.dumps(token_wise() if options.get("tokenWise") else trained()))
