"""The tinker package against a training server: trains, samples, saves, loads. Prints what it found as JSON."""
import json
import sys
import warnings

warnings.filterwarnings("ignore")
import tinker
from tinker import types

service = tinker.ServiceClient()
[model] = service.get_server_capabilities().supported_models
client = service.create_lora_training_client(base_model=model.model_name, rank=8, seed=3).result()
tokenizer = client.get_tokenizer()
ids = tokenizer.encode("One day Sam walked to the park and sang a song.")


def datum(**inputs):
    return types.Datum(
        model_input=types.ModelInput.from_ints(ids[:-1]), loss_fn_inputs={"target_tokens": ids[1:], **inputs}
    )


def error(work):
    try:
        work()
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"
    return None


count = len(ids) - 1
data = [datum(weights=[1.0] * count)] * 2
losses = []
for _ in range(8):
    passed = client.forward_backward(data, "cross_entropy")
    stepped = client.optim_step(types.AdamParams(learning_rate=1e-2))
    losses.append(passed.result().metrics["loss:sum"])
    stepped.result()
learned = client.forward(data, "cross_entropy").result()
logprobs = [list(map(float, one["logprobs"].data)) for one in learned.loss_fn_outputs]

policy = [datum(logprobs=logprobs[0], advantages=[1.0] * count)]
ratios = {
    name: client.forward(policy, name).result().metrics["loss:sum"]
    for name in ["importance_sampling", "ppo", "cispo", "dro"]
}


def squared(data, logprobs):
    loss = sum((one**2).sum() for one in logprobs)
    return loss, {"mine": float(loss)}


custom = client.forward_backward_custom(data, squared).result().metrics
client.optim_step(types.AdamParams(learning_rate=0.0)).result()

state = client.save_state("state").result().path
named = client.save_weights_for_sampler("named").result().path
sampler = client.save_weights_and_get_sampling_client().result()
prompt = types.ModelInput.from_ints(ids[:6])
greedy = types.SamplingParams(max_tokens=12, temperature=0.0)
drawn = sampler.sample(prompt, 2, greedy, include_prompt_logprobs=True, topk_sample_logprobs=2).result()
again = service.create_sampling_client(model_path=named).result().sample(prompt, 2, greedy).result()
stopped = sampler.sample(prompt, 1, types.SamplingParams(max_tokens=12, temperature=0.0, stop=["park"])).result()

other = service.create_training_client_from_state_with_optimizer(state).result()
resumed = other.forward(data, "cross_entropy").result().metrics["loss:sum"]
rest = service.create_rest_client()
found = {
    "model": model.model_name,
    "losses": losses,
    "learned": learned.metrics["loss:sum"],
    "ratios": ratios,
    "custom": custom,
    "logprobs": logprobs[0],
    "drawn": [list(one.tokens) for one in drawn.sequences],
    "again": [list(one.tokens) for one in again.sequences],
    "drawn_logprobs": [list(map(float, one.logprobs)) for one in drawn.sequences],
    "top": [one[0][0] for one in drawn.sequences[0].topk_logprobs],
    "prompt_logprobs": drawn.prompt_logprobs,
    "scored": sampler.compute_logprobs(prompt).result(),
    "stopped": [tokenizer.decode(stopped.sequences[0].tokens), stopped.sequences[0].stop_reason],
    "resumed": resumed,
    "run": rest.get_training_run_by_tinker_path(state).result().lora_rank,
    "checkpoints": sorted(one.checkpoint_id for one in rest.list_checkpoints(client.model_id).result().checkpoints),
    "errors": [
        error(lambda: client.forward_backward(data, "gspo").result()),
        error(lambda: client.optim_step(types.AdamParams()).result()),
        error(lambda: client.save_state("../up").result()),
        error(lambda: service.create_lora_training_client(base_model="another", rank=8).result()),
    ],
}
service.close("success").result()
json.dump(found, sys.stdout)
