"""TRL's own losses of GRPO and RLOO, and its overlong penalty, on given log-probabilities; and its trainers on given responses.

Usage: python check_trl_group.py losses job.json: {mask, logProbs, oldLogProbs, refLogProbs, advantages (by row), parts, maxLength,
rolloutTokens, windows, cases: [{trainer, lossType, options}], lengths, longest, buffer}; arrays are rows of slots.
Prints {cases: [{loss, gradient}], penalties}. Gradients are those of one optimizer step.

Usage: python check_trl_group.py runs request.json: {model, vocab_size, runs: [{trainer, settings, rollouts: [{prompts, responses,
rewards, order}], out}]}, each rollout's lists by response; `order` is that in which they are cut into passes. Saves each run's weights in the folder `out`, and prints {version, runs:
[[numbers of each optimizer step]]}.
"""

import sys
import types
from collections import defaultdict

import torch
from trl_runs import answer, load, numbers_tokenizer, recorded, settings
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.rewards import get_soft_overlong_punishment

trainers = {"grpo": GRPOTrainer, "rloo": RLOOTrainer}


def step(job: dict, array: dict, trainer, loss_type: str, o: dict) -> dict:
    new = array["logProbs"].clone().requires_grad_()
    accelerator = types.SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    me = types.SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (new[part], torch.zeros_like(new[part]), None),
        model=types.SimpleNamespace(training=True),
        args=types.SimpleNamespace(
            use_bias_correction_kl=o["unbiasedKl"], delta=o["delta"], steps_per_generation=len(job["parts"]) * job["windows"]
        ),
        accelerator=accelerator, _metrics={"train": defaultdict(list)}, current_gradient_accumulation_steps=len(job["parts"]),
        max_completion_length=job["maxLength"], importance_sampling_level=o["level"], loss_type=loss_type, beta=o["beta"],
        epsilon_low=o["epsilon"], epsilon_high=o["epsilonHigh"], top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        use_vllm=False, vllm_importance_sampling_correction=False, aux_loss_enabled=False, _entropy_bonus_enabled=False,
    )  # fmt: skip
    if o["sapo"]:
        me.args.sapo_temperature_pos, me.args.sapo_temperature_neg = o["sapo"]["positive"], o["sapo"]["negative"]
    total = 0.0
    for part in job["parts"]:
        mask = array["mask"][part]
        old = array["oldLogProbs"][part]
        inputs = {
            "prompt_ids": torch.zeros(len(part), 1, dtype=torch.long), "prompt_mask": torch.ones(len(part), 1),
            "completion_ids": torch.zeros_like(mask, dtype=torch.long), "completion_mask": mask, "old_per_token_logps": old,
            "old_logps": (old * mask).sum(1), "ref_per_token_logps": array["refLogProbs"][part],
            "advantages": array["advantages"][part], "num_items_in_batch": torch.tensor(float(job["rolloutTokens"])),
        }  # fmt: skip
        loss = trainer._compute_loss(me, me.model, inputs)
        if trainer is RLOOTrainer:  # its Trainer divides
            loss = loss / len(job["parts"])
        loss.backward()
        total += loss.item()
    return {"loss": total, "gradient": (new.grad * array["mask"]).tolist()}


def losses(job: dict) -> dict:
    torch.set_default_dtype(torch.float64)
    names = ("mask", "logProbs", "oldLogProbs", "refLogProbs", "advantages")
    array = {k: torch.tensor(job[k], dtype=torch.float64) for k in names}
    penalty = get_soft_overlong_punishment(max_completion_len=job["longest"], soft_punish_cache=job["buffer"])
    return {
        "cases": [step(job, array, trainers[c["trainer"]], c["lossType"], c["options"]) for c in job["cases"]],
        "penalties": penalty(completion_ids=[[0] * n for n in job["lengths"]]),
    }


def run(one: dict, request: dict) -> list:
    from datasets import Dataset

    rollouts = one["rollouts"]
    base = trainers[one["trainer"]]

    class Given(recorded(base)):
        """Takes responses that were drawn elsewhere."""

        rollout = -1

        def _generate_single_turn(self, prompt_ids, *args, **kwargs):
            self.rollout += 1
            assert prompt_ids == rollouts[self.rollout]["prompts"], f"other prompts: {prompt_ids}"
            responses = rollouts[self.rollout]["responses"]
            return (responses, None) if base is GRPOTrainer else responses

    def reward(**_):
        return rollouts[trainer.rollout]["rewards"]

    size = one["settings"]["num_generations"]
    prompts = [" ".join(map(str, ids)) for rollout in rollouts for ids in rollout["prompts"][::size]]
    own = {"temperature": 1.0, **one["settings"]}
    config = (GRPOConfig if base is GRPOTrainer else RLOOConfig)(**settings(shuffle_dataset=False, num_train_epochs=1, **own))
    trainer = Given(
        model=load(request["model"]), reward_funcs=reward, args=config, train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=numbers_tokenizer(request["vocab_size"]),
    )  # fmt: skip
    module = sys.modules[base.__module__]
    shuffle, drawn = module.shuffle_sequence_dict, torch.randperm

    def given_order(batch):
        torch.randperm = lambda _: torch.tensor(rollouts[trainer.rollout]["order"])
        try:
            return shuffle(batch)
        finally:
            torch.randperm = drawn

    module.shuffle_sequence_dict = given_order
    try:
        trainer.train()
    finally:
        module.shuffle_sequence_dict = shuffle
    trainer.model.save_pretrained(one["out"])
    return trainer.steps


if __name__ == "__main__":
    answer(losses, run)
