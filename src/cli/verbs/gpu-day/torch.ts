/** The same steps by PyTorch and transformers on the same machine, where somebody names a Python that has them. */
import type { DayModel } from "../../../day/index.ts";

/** Eager PyTorch on CUDA where there is some, else on the CPU. It tells figures as the items do. */
const PROGRAM = `
import json, sys, time
day = json.loads(sys.argv[1])
tell = lambda **figure: print(json.dumps({"figure": figure}, separators=(",", ":")), flush=True)
note = lambda **facts: print(json.dumps({"facts": facts}, separators=(",", ":")), flush=True)
import torch, transformers
from transformers import LlamaConfig, LlamaForCausalLM
device = "cuda" if torch.cuda.is_available() else "cpu"
name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
note(torch=torch.__version__, transformers=transformers.__version__, torchDevice=name)
wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
torch.manual_seed(1)
model = LlamaForCausalLM(LlamaConfig(**day["config"])).to(device)
end = time.monotonic() + day["seconds"]

def pace(work, most):
    work(); wait()
    times, until = [], min(end, time.monotonic() + most)
    while len(times) < 15 and (not times or time.monotonic() < until):
        start = time.monotonic(); work(); wait()
        times.append(time.monotonic() - start)
    times.sort()
    return times[len(times) // 2], times[0], len(times)

sequences, tokens = day["batch"]
vocab = day["config"]["vocab_size"]
ids = torch.randint(1, vocab, (sequences, tokens), device=device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

def step(half):
    with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step(); optimizer.zero_grad()

for half in (False, True):
    median, best, samples = pace(lambda: step(half), day["seconds"] / 5)
    what = f"torch SFT{' in bf16' if half else ''}, {sequences * tokens} tokens of {sequences} sequences"
    tell(what=what, unit="tokens/s", value=sequences * tokens / median, best=sequences * tokens / best, samples=samples,
         how=f"{1e3 * median:.1f} ms a step")

model.eval()
for count in day["decode"]:
    prompts = torch.randint(1, vocab, (count, day["prompt"]), device=device)
    def generate(new):
        with torch.no_grad():
            model.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=new, min_new_tokens=new,
                           do_sample=True, pad_token_id=0)
    share = day["seconds"] / 5 / len(day["decode"])
    first = pace(lambda: generate(1), share)[1]
    _, best, samples = pace(lambda: generate(1 + day["response"]), share)
    alone = best - first > best / 10
    new, taken = (day["response"], best - first) if alone else (1 + day["response"], best)
    tell(what=f"torch decoding, {count} sequences after {day['prompt']} tokens", unit="tokens/s",
         value=count * new / taken, samples=samples,
         how=f"{new} tokens each, {'without' if alone else 'with'} the prompt's {1e3 * first:.1f} ms")
`;

/** The command that measures a model's shape by PyTorch. */
export function torchCommand(python: string, { config, ...model }: DayModel, seconds: number): string[] {
  const { vocabSize, hiddenSize, layers, heads, kvHeads, headDim, intermediateSize, maxPositions } = config;
  const llama = {
    vocab_size: vocabSize,
    hidden_size: hiddenSize,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    intermediate_size: intermediateSize,
    max_position_embeddings: maxPositions,
    tie_word_embeddings: config.tieEmbeddings,
    rms_norm_eps: config.normEps,
    bos_token_id: null,
    eos_token_id: null,
  };
  return [python, "-c", PROGRAM, JSON.stringify({ ...model, config: llama, seconds })];
}
