"""Runs TRL's own losses and trainers on what webrlhf was given, and prints what they compute.

Usage: python check_trl_preference.py losses fixture.json      losses and gradients of the cases that TRL knows
       python check_trl_preference.py runs request.json    every number that training runs publish, step by step

A request holds a model folder and runs: kind (dpo, kto or sft), the micro-batches of every step as token ids, settings, and a
folder to save the weights in. A JSON document goes to stdout.
"""

import collections
import types

import torch
from torch.utils.data import DataLoader
from trl_runs import answer, load, numbers_tokenizer, passes, recorded, settings


def stand_in(**fields):
    """An object with a trainer's settings, for calling its methods without a model."""
    accelerator = types.SimpleNamespace(
        device=torch.device("cpu"), gather_for_metrics=lambda x: x, gather=lambda x: x, unwrap_model=lambda m: m
    )
    metrics = {"train": collections.defaultdict(list), "eval": collections.defaultdict(list)}
    return types.SimpleNamespace(
        accelerator=accelerator, _metrics=metrics, model=types.SimpleNamespace(training=True), aux_loss_enabled=False,
        _total_train_tokens=0, _tp_size=1, **fields,
    )


def right_padded(rows):
    """Log-probabilities of tokens 1, 2, ... as TRL has them: one more column of ids than of log-probabilities."""
    width = max(len(r) for r in rows)
    return torch.stack([torch.cat([r, torch.zeros(width - len(r), dtype=r.dtype)]) for r in rows])


def dpo_case(fixture, case, rows, prompts):
    from trl.trainer.dpo_trainer import DPOTrainer

    o = case["options"]
    logps = right_padded(rows)
    width = logps.shape[1]
    mask = torch.zeros(len(rows), width + 1, dtype=torch.long)
    for i, r in enumerate(rows):
        mask[i, 1 + prompts[i] : 1 + len(r)] = 1
    logps = logps * mask[:, 1:]
    refs = [torch.tensor(r, dtype=logps.dtype) for r in fixture["ref_chosen"] + fixture["ref_rejected"]]
    tokens = mask.sum(1)
    pairs = len(rows) // 2

    def ref_sum(i):
        own = refs[i][prompts[i] :]
        shared = int(min(tokens[i % pairs], tokens[i % pairs + pairs]))
        return own[:shared].sum() + o.get("ld_alpha", 1.0) * own[shared:].sum()

    ref = torch.stack([ref_sum(i) for i in range(len(rows))])
    zeros = torch.zeros_like(logps)
    out = types.SimpleNamespace(
        log_probs=logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), log_sum_sq_probs=zeros
    )
    fake = stand_in(
        ld_alpha=o.get("ld_alpha"), precompute_ref_logps=True, f_divergence_type=o.get("divergence", "reverse_kl"),
        f_alpha_divergence_coef=o.get("alpha", 0.5), loss_types=[l["type"] for l in case["losses"]],
        loss_weights=[l["weight"] for l in case["losses"]], beta=o.get("beta", 0.1),
        label_smoothing=o.get("label_smoothing", 0.0), use_weighting=False,
        args=types.SimpleNamespace(discopop_tau=o.get("discopop_tau", 0.05)),
    )
    inputs = {
        "input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask,
        "ref_chosen_logps": ref[:pairs], "ref_rejected_logps": ref[pairs:],
    }
    return DPOTrainer._compute_loss(fake, lambda **_: out, inputs, False)


def means(rows, prompts, average):
    sums = [r[p:].sum() / (max(1, len(r) - p) if average else 1) for r, p in zip(rows, prompts)]
    return torch.stack(sums[: len(rows) // 2]), torch.stack(sums[len(rows) // 2 :])


def cpo_case(case, rows, prompts):
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    o, name = case["options"], case["losses"][0]["type"]
    fake = stand_in(
        alpha=0.0, loss_type=name, beta=o.get("beta", 0.1), label_smoothing=o.get("label_smoothing", 0.0),
        simpo_gamma=o.get("simpo_gamma", 0.5),
    )
    losses, _, _ = CPOTrainer.cpo_loss(fake, *means(rows, prompts, name in ("ipo", "simpo")))
    pairs = len(rows) // 2
    chosen = torch.cat([r[p:] for r, p in zip(rows[:pairs], prompts)])
    return losses.mean() - o.get("cpo_alpha", 1.0) * chosen.mean()


def orpo_case(case, rows, prompts):
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    # TRL's log(1 - e^l) does not exist for an answer without tokens; webrlhf's counts it as -1e-6.
    chosen, rejected = (x.clamp(max=-1e-6) for x in means(rows, prompts, True))
    odds = ORPOTrainer.odds_ratio_loss(stand_in(beta=case["options"]["beta"]), chosen, rejected)[0]
    return -torch.cat(rows[: len(rows) // 2]).mean() - odds.mean()


def known(case):
    o, names = case["options"], [l["type"] for l in case["losses"]]
    if case["trainer"] != "dpo":
        return True
    if {"running", "len_penalty", "rpo_alpha", "weights", "ipo_average"} & set(o):
        return False
    if set(names) & {"aot_pair", "kto_pair", "raft", "cross_entropy", "rev_kl", "kl", "tv", "hellinger"}:
        return False
    if set(names) & {"sigmoid", "sigmoid_norm"} and "label_smoothing" in o:
        return False
    return not ("exo_pair" in names and "label_smoothing" not in o)


def losses(fixture):
    lists = fixture["chosen"] + fixture["rejected"]
    prompts = fixture["prompts"] * 2
    found = []
    for index, case in enumerate(fixture["cases"]):
        if not known(case):
            continue
        # alpha_divergence is written for single precision there
        dtype = torch.float32 if case["options"].get("divergence") == "alpha_divergence" else torch.float64
        rows = [torch.tensor(r, dtype=dtype, requires_grad=True) for r in lists]
        if case["trainer"] == "dpo":
            loss = dpo_case(fixture, case, rows, prompts)
        elif case["trainer"] == "cpo":
            loss = cpo_case(case, rows, prompts)
        else:
            loss = orpo_case(case, rows, prompts)
        grads = torch.autograd.grad(loss, rows, allow_unused=True)
        listed = [[0.0] * len(r) if g is None else g.tolist() for r, g in zip(rows, grads)]
        pairs = len(rows) // 2
        found.append(
            {"index": index, "loss": float(loss), "grads": {"chosen": listed[:pairs], "rejected": listed[pairs:]}}
        )
    return {"cases": found}


def in_batches(trainer_class, batches):
    """The trainer, on token ids as they are and in these batches of places, keeping every step's numbers."""

    class Given(recorded(trainer_class)):
        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset

        def get_train_dataloader(self):
            return DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)

    return Given


def run(one, request):
    from datasets import Dataset
    import trl

    kind = one["kind"]
    parts = [part for step in one["steps"] for part in step]
    rows = [row for part in parts for row in part]
    places = iter(range(len(rows)))
    batches = [[next(places) for _ in part] for part in parts]
    common = settings(num_train_epochs=1, max_length=None, **passes(one["steps"]), **one["settings"])
    if kind == "dpo":
        cls, config = trl.DPOTrainer, trl.DPOConfig(**common)
        data = [{"prompt_ids": r["prompt"], "chosen_ids": r["chosen"], "rejected_ids": r["rejected"]} for r in rows]
        others = {"ref_model": load(request["model"])}
    elif kind == "kto":
        cls, config = trl.KTOTrainer, trl.KTOConfig(**common)
        data = [
            {
                "prompt_ids": r["prompt"],
                "completion_ids": r["completion"],
                # the answer before its own in the batch, as webrlhf and TRL's own preparation rotate them
                "KL_completion_ids": part[i - 1]["completion"],
                "label": r["label"],
            }
            for part in parts
            for i, r in enumerate(part)
        ]
        others = {"ref_model": load(request["model"])}
    else:
        cls, config = trl.SFTTrainer, trl.SFTConfig(**common)
        data = [
            {
                "input_ids": r["prompt"] + r["completion"],
                "labels": [-100] * len(r["prompt"]) + r["completion"],
            }
            for r in rows
        ]
        others = {}
    trainer = in_batches(cls, batches)(
        model=load(request["model"]), args=config, train_dataset=Dataset.from_list(data),
        processing_class=numbers_tokenizer(request["vocab_size"]), **others,
    )  # fmt: skip
    trainer.train()
    trainer.model.save_pretrained(one["out"])
    return trainer.steps


if __name__ == "__main__":
    answer(losses, run)
