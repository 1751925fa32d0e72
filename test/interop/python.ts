/** What comparisons with other programs share: a Python that has them, and a model's answers. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { noGrad, packing, scope, tensor } from "webrlhf";
import { CausalLM, type Model, type ScoreModel } from "webrlhf/nn";

/** The Python of comparisons: the one that WEBRLHF_PYTHON names, or python3 on the PATH. */
export const python = process.env.WEBRLHF_PYTHON ?? "python3";

/** Why a comparison cannot run that needs these modules, or "". */
export function whyNot(needed: readonly string[]): string {
  const list = `[${needed.map((name) => `'${name}'`).join(", ")}]`;
  const probe = spawnSync(python, ["-c", `import importlib.util as u; print(all(map(u.find_spec, ${list})))`]);
  if (probe.error) return `${python} does not start`;
  const names = [needed.slice(0, -1).join(", "), needed.at(-1)].filter(Boolean).join(" and ");
  return probe.stdout.toString().trim() === "True" ? "" : `${python} has no ${names}; WEBRLHF_PYTHON can name another`;
}

/**
 * The lines that a script of this folder prints. Nothing is computed on a GPU or fetched from a hub there.
 * @throws what the script says last, where it fails
 */
export function runPython(
  script: string,
  args: readonly string[],
  { input, env }: { input?: string; env?: Record<string, string | undefined> } = {},
): string[] {
  const file = fileURLToPath(new URL(script, import.meta.url));
  const run = spawnSync(python, [file, ...args], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
    env: { ...process.env, CUDA_VISIBLE_DEVICES: "", HF_HUB_OFFLINE: "1", PYTHONDONTWRITEBYTECODE: "1", ...env },
    ...(input !== undefined && { input }),
  });
  if (run.status !== 0) throw new Error(`${script} failed: ${run.error?.message ?? run.stderr.slice(-4000)}`);
  return run.stdout.trim().split("\n");
}

/** What a script of this folder prints last, as JSON. */
export const askPython = <T>(...asked: Parameters<typeof runPython>): T =>
  JSON.parse(runPython(...asked).at(-1) as string) as T;

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
