"""PPO as PaddleNLP, safe-rlhf and TRL train it, in PyTorch and float64, on responses and scores that were given.

Nothing of webrlhf takes part. Batches are padded as those programs pad them: prompts on the left, responses on the right.
`train` takes the policy, the reference and the critic (transformers' models), rollouts and settings by the names of PaddleNLP
and TRL, and trains policy and critic in place.
"""

import math

import torch

EPS = 1e-8


def padded(rows, pad=0):
    """Prompts to the left, responses to the right of one column: ids, mask, and the column where responses begin."""
    before = max(len(r["prompt"]) for r in rows)
    after = max(len(r["response"]) for r in rows)
    ids = torch.full((len(rows), before + after), pad)
    mask = torch.zeros(len(rows), before + after, dtype=torch.bool)
    for i, r in enumerate(rows):
        p, q = r["prompt"], r["response"]
        ids[i, before - len(p) : before] = torch.tensor(p)
        ids[i, before : before + len(q)] = torch.tensor(q)
        mask[i, before - len(p) : before + len(q)] = True
    return ids, mask, before


def places(mask):
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def log_probs(model, ids, mask, start, temperature=1.0):
    """Of every response token, by the logits of the token before it."""
    logits = model(input_ids=ids, attention_mask=mask.long(), position_ids=places(mask)).logits / temperature
    each = torch.log_softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return each[:, start - 1 :]


def scores(model, ids, mask):
    hidden = model.base_model(input_ids=ids, attention_mask=mask.long(), position_ids=places(mask)).last_hidden_state
    return model.score(hidden).squeeze(-1)


def rate(o, peak, name, warmup, step, total):
    """The schedules of transformers' optimization.py, with a warm-up in steps."""
    if name == "constant":
        return peak
    if step < warmup:
        return peak * step / max(1, warmup)
    if name == "constant_with_warmup":
        return peak
    done = (step - warmup) / max(1, total - warmup)
    return peak * (max(0.0, 1 - done) if name == "linear" else max(0.0, 0.5 * (1 + math.cos(math.pi * done))))


def optimizer_of(model, o, decay):
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1.0, betas=(o["adam_beta1"], o["adam_beta2"]), eps=EPS)


def stepped(optimizer, learning_rate, clip):
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if clip:
        torch.nn.utils.clip_grad_norm_(parameters, clip)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad()


def micro_batches(rollout, o, dialect):
    """The places of the responses that each pass of an epoch learns from; the rollout has them prompt by prompt."""
    samples, size = o["num_return_sequences"], o["per_device_train_batch_size"]
    count = len(rollout)
    if dialect == "paddle-late":
        # generate_sequences gives all responses to a prompt, and they are cut into batches as they come
        return [list(range(i, min(i + size, count))) for i in range(0, count, size)]
    found = []
    prompts = count // samples
    for first in range(0, prompts, size):  # split_rl_micro_batches
        chunk = range(first, min(first + size, prompts))
        for sample in range(samples):  # rollout: reshape, transpose
            found.append([prompt * samples + sample for prompt in chunk])
    return found


def average(values, mask, by_sequence):
    if by_sequence:
        return ((values * mask).sum(1) / mask.sum(1)).mean()
    return (values * mask).sum() / mask.sum()


def gae(rewards, values, gamma, lam):
    advantages, last, following = torch.zeros_like(rewards), 0.0, 0.0
    for t in reversed(range(rewards.shape[1])):
        last = rewards[:, t] + gamma * following - values[:, t] + gamma * lam * last
        advantages[:, t], following = last, values[:, t]
    return advantages


class Learner:
    """What the three programs share: two models with their optimizers, and losses of passes."""

    def __init__(self, policy, reference, critic, o, dialect):
        self.policy, self.reference, self.critic, self.o, self.dialect = policy, reference, critic, o, dialect
        self.actor_optimizer = optimizer_of(policy, o, o["weight_decay"])
        self.critic_optimizer = optimizer_of(critic, o, o["critic_weight_decay"])

    def actor_loss(self, ids, mask, start, old, advantages, live, temperature):
        new = log_probs(self.policy, ids, mask, start, temperature)
        ratio = torch.where(live, (new - old).exp(), torch.ones_like(new))
        clipped = ratio.clamp(1 - self.o["clip_range_ratio"], 1 + self.o["clip_range_ratio"])
        return average(torch.max(-advantages * ratio, -advantages * clipped), live, self.dialect == "safe")

    def critic_loss(self, values, old, returns, live):
        c = self.o["clip_range_value"]
        near = torch.min(torch.max(values, old - c), old + c)
        worst = torch.max((values - returns) ** 2, (near - returns) ** 2)
        return 0.5 * average(worst, live, self.dialect == "safe")

    def update(self, step, total):
        o = self.o
        stepped(
            self.actor_optimizer, rate(o, o["learning_rate"], o["lr_scheduler_type"], o["warmup_steps"], step, total),
            o["max_grad_norm"],
        )  # fmt: skip
        stepped(
            self.critic_optimizer,
            rate(o, o["critic_learning_rate"], o["critic_lr_scheduler_type"], o["critic_warmup_steps"], step, total),
            o["max_grad_norm"],
        )


def supervised_loss(policy, rows, pad=0):
    """Cross entropy of the answers' tokens, a mean over all of them, padded on the right."""
    width = max(len(r["prompt"]) + len(r["response"]) for r in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    labels = torch.full((len(rows), width), -100)
    for i, r in enumerate(rows):
        whole = r["prompt"] + r["response"]
        ids[i, : len(whole)] = torch.tensor(whole)
        mask[i, : len(whole)] = True
        labels[i, len(r["prompt"]) : len(whole)] = torch.tensor(r["response"])
    logits = policy(input_ids=ids, attention_mask=mask.long(), position_ids=places(mask)).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def paddle_or_safe(learner, rollouts, ptx):
    o, dialect = learner.o, learner.dialect
    late = dialect == "paddle-late"
    running = {"mean": 0.0, "var": 1.0, "count": 0}
    passes_of_rollout = len(micro_batches(rollouts[0], o, dialect)) * o["update_iters"]
    per_rollout = math.ceil(passes_of_rollout / o["gradient_accumulation_steps"])
    done = 0
    for index, rollout in enumerate(rollouts):
        batches = []
        for places_of_pass in micro_batches(rollout, o, dialect):
            rows = [rollout[i] for i in places_of_pass]
            ids, mask, start = padded(rows)
            live = mask[:, start:]
            with torch.no_grad():
                temperature = o["temperature"] if late else 1.0
                old = log_probs(learner.policy, ids, mask, start, temperature)
                ref = log_probs(learner.reference, ids, mask, start, temperature)
                values = scores(learner.critic, ids, mask)[:, start - 1 : -1] * live
            score = torch.tensor([r["reward"] for r in rows], dtype=old.dtype)
            batches.append({"ids": ids, "mask": mask, "start": start, "live": live, "old": old, "ref": ref, "values": values,
                            "score": score, "ends": live.sum(1) - 1})  # fmt: skip
        if late and o["normalize_reward"]:
            fresh = torch.cat([b["score"] for b in batches])
            n, m = running["count"], len(fresh)
            delta = float(fresh.mean()) - running["mean"]
            mean = running["mean"] + delta * m / (n + m)
            var = (running["var"] * n + float(fresh.var()) * m + delta**2 * n * m / (n + m)) / (n + m)
            running = {"mean": mean, "var": var, "count": n + m}
            for b in batches:
                b["score"] = (b["score"] - mean) / (math.sqrt(var) + EPS)
        for b in batches:
            at = torch.arange(len(b["ends"]))
            bound = o["clip_range_score"]
            rewards = -o["kl_coeff"] * (b["old"] - b["ref"])
            if dialect == "safe":
                rewards[at, b["ends"]] += b["score"]
                rewards = rewards.clamp(-bound, bound)
            else:
                rewards[at, b["ends"]] += b["score"].clamp(-bound, bound)
            b["advantages"] = gae(rewards * b["live"], b["values"], o["gamma"], o["lam"])
            b["returns"] = b["advantages"] + b["values"]
        if late and o["normalize_advantage"]:
            every = torch.cat([b["advantages"][b["live"]] for b in batches])
            for b in batches:
                b["advantages"] = (b["advantages"] - every.mean()) / (every.std() + EPS) * b["live"]
        first, queue = 0, []
        for _ in range(o["update_iters"]):
            first = 0
            for b in batches:
                queue.append((b, ptx[index][first : first + len(b["ids"])] if ptx else None))
                first += len(b["ids"])
        size = o["gradient_accumulation_steps"]
        for at in range(0, len(queue), size):
            window = queue[at : at + size]
            for b, beside in window:
                actor = learner.actor_loss(b["ids"], b["mask"], b["start"], b["old"], b["advantages"], b["live"], 1.0)
                # With ptx the accumulation is doubled: one pass of either kind
                (actor / len(window) / (2 if ptx else 1)).backward()
                if beside:
                    (o["ptx_coeff"] * supervised_loss(learner.policy, beside) / len(window) / 2).backward()
                values = scores(learner.critic, b["ids"], b["mask"])[:, b["start"] - 1 : -1]
                (learner.critic_loss(values, b["values"], b["returns"], b["live"]) / len(window)).backward()
            learner.update(done, len(rollouts) * per_rollout)
            done += 1
    return done


def whitened(values, mask, shift=True):
    live = values[mask]
    mean, var = live.mean(), live.var()
    return (values - mean) * torch.rsqrt(var + EPS) + (0.0 if shift else mean)


def trl(learner, rollouts, orders):
    """The PPOTrainer of TRL 1.12: a score's own slot, whitened advantages, epochs in drawn orders, a rate for each rollout."""
    o, temperature = learner.o, learner.o["temperature"] + 1e-7
    longest, done = o["response_length"], 0
    for index, rollout in enumerate(rollouts):
        ids, mask, start = padded(rollout)
        short = longest - (ids.shape[1] - start)  # as if the longest one had been drawn
        ids = torch.nn.functional.pad(ids, (0, short))
        mask = torch.nn.functional.pad(mask, (0, short))
        live = mask[:, start:]
        lengths = live.sum(1)
        columns = torch.arange(longest)[None]
        live_value = columns <= lengths[:, None]
        with torch.no_grad():
            old = log_probs(learner.policy, ids, mask, start, temperature)
            ref = log_probs(learner.reference, ids, mask, start, temperature)
            values = scores(learner.critic, ids, mask)[:, start - 1 : -1] * live_value
        score = torch.tensor([r["reward"] for r in rollout], dtype=old.dtype)
        missing = torch.tensor([not r["ended"] for r in rollout])
        score = score - o["missing_eos_penalty"] * missing
        difference = torch.where(live, ref - old, torch.zeros_like(old))
        kl = -difference if o["kl_estimator"] == "k1" else difference.exp() - 1 - difference
        rewards = -o["kl_coeff"] * kl
        rewards[torch.arange(len(rollout)), torch.where(lengths < longest, lengths, lengths - 1)] += score
        if o["whiten_rewards"]:
            rewards = whitened(rewards, live_value, shift=False) * live_value
        advantages = gae(rewards, values, o["gamma"], o["lam"])
        returns = advantages + values
        advantages = whitened(advantages, live) * live
        size, accumulation = o["per_device_train_batch_size"], o["gradient_accumulation_steps"]
        queue = [order[i : i + size] for order in orders[index] for i in range(0, len(order), size)]
        for at in range(0, len(queue), accumulation):
            window = queue[at : at + accumulation]
            for part in window:
                own = torch.tensor(part)
                actor = learner.actor_loss(ids[own], mask[own], start, old[own], advantages[own], live[own], temperature)
                found = scores(learner.critic, ids[own], mask[own])[:, start - 1 : -1]
                value = learner.critic_loss(found, values[own], returns[own], live_value[own])
                ((actor + o["vf_coef"] * value) / len(window)).backward()
            learner.update(index, len(rollouts))  # the scheduler steps once per rollout
            done += 1
    return done


def train(policy, reference, critic, dialect, o, rollouts, orders=None, ptx=None):
    """Trains policy and critic in place; returns the number of optimizer steps."""
    learner = Learner(policy, reference, critic, o, dialect)
    if dialect == "trl":
        return trl(learner, rollouts, orders)
    return paddle_or_safe(learner, rollouts, ptx)
