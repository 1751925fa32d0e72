"""Trains policies and critics with PPO on responses that were given, and saves their weights.

Usage: python check_ppo.py request.json            by the float64 reference beside this file
       python check_ppo.py request.json original   by the PPOTrainer of an installed TRL that has one (1.12.0 is the last)

A request holds folders of models (policy, reference, critic) and runs: dialect, settings, rollouts (each a list of responses
prompt by prompt: {prompt, response, ended, reward}), the orders of each rollout's epochs, ptx, and a folder to save into.
Prints {versions, steps: [optimizer steps of each run], logs: [what the trainer logged of each rollout]}.
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
import transformers  # noqa: E402
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification  # noqa: E402

import ppo_reference  # noqa: E402

torch.set_num_threads(1)


def opened(request, dtype):
    causal = [AutoModelForCausalLM.from_pretrained(request[name], dtype=dtype) for name in ("policy", "reference")]
    critic = AutoModelForSequenceClassification.from_pretrained(request["critic"], dtype=dtype, num_labels=1)
    for model in (*causal, critic):
        model.eval()  # no dropout anywhere
        model.get_input_embeddings().padding_idx = None  # transformers would keep the padding's embedding from learning
    return *causal, critic


def saved(policy, critic, folder):
    policy.float().save_pretrained(os.path.join(folder, "policy"))
    critic.float().save_pretrained(os.path.join(folder, "critic"))


def reference(request, one):
    policy, base, critic = opened(request, torch.float64)
    steps = ppo_reference.train(
        policy, base, critic, one["dialect"], one["settings"], one["rollouts"], one.get("orders"), one.get("ptx")
    )
    saved(policy, critic, one["out"])
    return steps, []


def original(request, one):
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    policy, base, critic = opened(request, torch.float32)
    judge = AutoModelForSequenceClassification.from_pretrained(request["critic"], num_labels=1)  # its scores are not looked at
    vocabulary = {f"w{i}": i for i in range(policy.config.vocab_size)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="w0")), pad_token="w0", eos_token="w1", unk_token="w0"
    )
    o, rollouts = one["settings"], one["rollouts"]
    optional = {name: o[name] for name in ("missing_eos_penalty",) if o[name]}
    args = PPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to="none", save_strategy="no", eval_strategy="no",
        gradient_checkpointing=False, disable_tqdm=True, num_sample_generations=0, stop_token="eos",
        local_rollout_forward_batch_size=len(rollouts[0]), total_episodes=sum(map(len, rollouts)), num_mini_batches=1,
        per_device_train_batch_size=o["per_device_train_batch_size"], weight_decay=o["weight_decay"],
        gradient_accumulation_steps=o["gradient_accumulation_steps"], num_ppo_epochs=o["update_iters"],
        learning_rate=o["learning_rate"], lr_scheduler_type=o["lr_scheduler_type"], warmup_steps=o["warmup_steps"],
        adam_beta1=o["adam_beta1"], adam_beta2=o["adam_beta2"], kl_coef=o["kl_coeff"], kl_estimator=o["kl_estimator"],
        cliprange=o["clip_range_ratio"], cliprange_value=o["clip_range_value"], vf_coef=o["vf_coef"], gamma=o["gamma"],
        lam=o["lam"], temperature=o["temperature"], response_length=o["response_length"], whiten_rewards=o["whiten_rewards"],
        **optional,
    )  # fmt: skip
    longest = o["response_length"]
    tables = []
    for rollout in rollouts:
        ids, _, start = ppo_reference.padded(rollout)
        tables.append((torch.nn.functional.pad(ids, (0, longest - (ids.shape[1] - start))), start))
    at = {"rollout": -1, "epoch": 0}

    def given_responses(model, queries, _, pad_token_id, generation_config):
        at["rollout"] += 1
        at["epoch"] = 0
        ids, start = tables[at["rollout"]]
        assert torch.equal(queries, ids[:, :start])
        logits = ppo_trainer.forward(model, ids, pad_token_id).logits[:, start - 1 : -1]
        return ids, logits / (args.temperature + 1e-7)

    def given_order(_):
        order = one["orders"][at["rollout"]][at["epoch"]]
        at["epoch"] += 1
        return ppo_trainer.np.array(order)

    own_scores = ppo_trainer.get_reward

    def given_scores(model, *rest):
        if model is not judge:
            return own_scores(model, *rest)
        return None, torch.tensor([r["reward"] for r in rollouts[at["rollout"]]]), None

    trainer = PPOTrainer(
        args=args, processing_class=tokenizer, model=policy, ref_model=base, reward_model=judge, value_model=critic,
        train_dataset=Dataset.from_dict({"input_ids": [r["prompt"] for rollout in rollouts for r in rollout]}),
        eval_dataset=Dataset.from_dict({"input_ids": [rollouts[0][0]["prompt"]]}),
    )  # fmt: skip
    trainer.dataloader = [{"input_ids": ids[:, :start]} for ids, start in tables]
    numpy = ppo_trainer.np
    ppo_trainer.batch_generation, ppo_trainer.get_reward = given_responses, given_scores
    permutation, numpy.random.permutation = numpy.random.permutation, given_order
    taken, logs = [], []
    trainer.log = lambda metrics: logs.append({name: float(value) for name, value in metrics.items()})
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda *args, **kwargs: (taken.append(trainer.accelerator.sync_gradients), step(*args, **kwargs))[1]
    try:
        trainer.train()
    finally:
        numpy.random.permutation, ppo_trainer.get_reward = permutation, own_scores
    saved(policy, critic, one["out"])
    return sum(taken), logs


def main(path, how=reference):
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    if how is original:
        import trl

        versions["trl"] = trl.__version__
    with open(path) as f:
        request = json.load(f)
    found = [how(request, one) for one in request["runs"]]
    return {"versions": versions, "steps": [steps for steps, _ in found], "logs": [logs for _, logs in found]}


if __name__ == "__main__":
    out = sys.stdout
    sys.stdout = sys.stderr
    json.dump(main(sys.argv[1], original if "original" in sys.argv[2:] else reference), out)
