/**
 * torch.optim.Muon beside webrlhf's, for some steps on the same gradients: to f32's precision where torch's iterations are done in f32,
 * and to bf16's as they are. Needs a Python with torch 2.9 or later: python3 on the PATH, or the one that WEBRLHF_PYTHON names.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Parameter, ParameterStore } from "webrlhf";
import { AdamW } from "webrlhf/nn";
import { normal } from "../../src/runtime/rng.ts";
import { gpuReady } from "../helpers.ts";
import { distance } from "./parity.ts";
import { askPython, python, whyNot } from "./python.ts";

const missing = whyNot(["torch"]);
const old = missing === "" && spawnSync(python, ["-c", "import torch; torch.optim.Muon"]).status !== 0;
const reason = old ? "its torch has no Muon" : missing;

const folder = mkdtempSync(join(tmpdir(), "webrlhf-muon-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeAll(gpuReady);

const STEPS = 20;
const shapes = { wide: [32, 48], tall: [64, 16], square: [24, 24], table: [40, 16] };
const muon = ["wide", "tall", "square"];
const [lr, weightDecay, maxGradNorm] = [0.01, 0.1, 1];

describe.skipIf(reason !== "")(`torch.optim.Muon${reason ? ` (skipped: ${reason})` : ""}`, () => {
  it(`gives the same weights after ${STEPS} steps`, { timeout: 180_000 }, async () => {
    const parameters = Object.entries(shapes).map(([name, shape]) => {
      const parameter = new Parameter(shape, { normal: 0.1 });
      parameter.name = name;
      parameter.maps = muon.includes(name) ? [[0, shape[0]]] : null;
      return parameter;
    });
    const store = new ParameterStore(parameters, "test").initialize(3);
    const rowsOf = (values: ArrayLike<number>, cols: number) =>
      Array.from({ length: values.length / cols }, (_, i) => Array.from(values).slice(i * cols, (i + 1) * cols));
    const named = (values: (p: Parameter) => ArrayLike<number>) =>
      Object.fromEntries(parameters.map((p) => [p.name, rowsOf(values(p), p.shape[1])]));
    const start = await store.read();
    const gradient = (step: number, p: Parameter) =>
      Float32Array.from({ length: p.size }, (_, i) => 0.02 * (1 + step) * normal(7, step, parameters.indexOf(p), i));
    const grads = Array.from({ length: STEPS }, (_, step) => named((p) => gradient(step, p)));
    const path = join(folder, "request.json");
    const given = { start: named((p) => start.get(p.name) as Float32Array), grads, muon, lr, weightDecay, maxGradNorm };
    writeFileSync(path, JSON.stringify(given));
    type Named = Record<string, number[]>;
    const theirs = askPython<{ version: string; bf16: Named; f32: Named }>("check_torch_muon.py", [path]);

    const optimizer = new AdamW(store, { muon: true, weightDecay, maxGradNorm });
    for (let step = 0; step < STEPS; step++) {
      for (const p of parameters) p.value.grad?.write(gradient(step, p));
      optimizer.step(lr);
    }
    const ours = await store.read();
    const apart = (found: Named) => distance(ours, new Map(Object.entries(found)), start);
    const [exact, rounded] = [apart(theirs.f32), apart(theirs.bf16)];
    console.log(`Muon beside torch ${theirs.version}: f32 ${JSON.stringify(exact)}, bf16 ${JSON.stringify(rounded)}`);
    expect(exact.update).toBeLessThan(1e-5);
    expect(rounded.update).toBeLessThan(3e-2);
    for (const one of [optimizer, store]) one.destroy();
  });
});
