/** What comparisons with other programs share: a Python that has them, and a model's answers. */
import { spawnSync } from "node:child_process";
import { noGrad, packing, scope, tensor } from "webrlhf";
import { CausalLM, type Model, type ScoreModel } from "webrlhf/nn";

/** Why a comparison cannot run that needs these modules, or "". */
export function whyNot(python: string, needed: readonly string[]): string {
  const list = `[${needed.map((name) => `'${name}'`).join(", ")}]`;
  const probe = spawnSync(python, ["-c", `import importlib.util as u; print(all(map(u.find_spec, ${list})))`]);
  if (probe.error) return `${python} does not start`;
  const names = [needed.slice(0, -1).join(", "), needed.at(-1)].filter(Boolean).join(" and ");
  return probe.stdout.toString().trim() === "True" ? "" : `${python} has no ${names}; WEBRLHF_PYTHON can name another`;
}

/** The logits of all tokens of some sequences, or a score model's scores of their last ones. */
export async function logitsOf(model: Model, ids: readonly (readonly number[])[]): Promise<Float32Array> {
  const lengths = ids.map((s) => s.length);
  const out = scope(() =>
    noGrad(() => {
      const host = Uint32Array.from(ids.flat());
      const packed = packing(lengths);
      const batch = { gpu: tensor(host), host };
      if (model instanceof CausalLM) return model.logits(model.decoder.forward(batch, { packing: packed }));
      const ends = packed.starts.map((start, i) => start + lengths[i] - 1);
      return (model as ScoreModel).scores(batch, packed, Uint32Array.from(ends));
    }),
  );
  const read = await out.read();
  out.free("the test");
  return read as Float32Array;
}
