#!/usr/bin/env node
/**
 * What several learners that meet in rounds reach: four learners, each with a quarter of the tokens, against one that takes batches four
 * times as large, and against one alone, by the loss on held-out stories of the built-in world. All start from the same model, which
 * has seen some stories. Writes docs/results/diloco.json and, from all that is in it, docs/results/diloco.md.
 *
 *   node scripts/diloco.mjs                  what is not measured yet
 *   node scripts/diloco.mjs --minutes 5      as much of it as begins within so many minutes
 */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fromSource } from "./source.mjs";

const { values: options } = parseArgs({ options: { minutes: { type: "string" } } });
const folder = path.resolve(import.meta.dirname, "../docs/results");
const SEEDS = [1, 2, 3];
const LEARNERS = 4;
const STEPS = 100;
const BEGIN = 60; // steps of the common start
const BATCH = 8;
const RATE = 3e-3;
const STORIES = 4096;
const ROUNDS = [10, 50, 100];

const cases = ["full", "LoRA"].flatMap((what) => [
  { what, how: "one learner" },
  { what, how: "one learner, batches of 32" },
  ...ROUNDS.flatMap((every) => ["float32", "int8"].map((wire) => ({ what, how: "four learners", every, wire }))),
]);

const jsonFile = path.join(folder, "diloco.json");
let kept = [];
try {
  kept = JSON.parse(readFileSync(jsonFile, "utf8"));
} catch {
  // Nothing is measured yet.
}
const key = ({ what, how, every, wire, seed }) => [what, how, every, wire, seed].join();
const known = new Set(kept.map(key));

await fromSource(async (load) => {
  const { openDevice } = await load("/src/index.ts");
  const { sftExample, worldSftRecords, worldTokenizer } = await load("/src/data/index.ts");
  const { CausalLM, decoderConfig } = await load("/src/nn/index.ts");
  const { evaluateSft, LearnerGroup, trainSft } = await load("/src/rlhf/index.ts");
  await openDevice();
  const tokenizer = worldTokenizer();
  const stories = worldSftRecords(STORIES + 512, 1).map((record) => sftExample(record, tokenizer, { maxLength: 48 }));
  const [begin, train, held] = [stories.slice(0, 1024), stories.slice(1024, STORIES), stories.slice(STORIES)];
  const config = decoderConfig({
    ...{ family: "llama", vocabSize: tokenizer.vocabSize, hiddenSize: 48, layers: 2, heads: 3, intermediateSize: 128 },
    ...{ maxPositions: 64, eosId: tokenizer.eosId ?? null, padId: tokenizer.padId ?? null },
  });
  const tune = async (policy, data, settings, run = {}) => {
    const common = { learningRate: RATE, lrSchedulerType: "constant", saveMinutes: 0, perDeviceTrainBatchSize: BATCH };
    for await (const _ of trainSft({ policy }, data, { ...common, ...settings }, run));
  };

  async function measure({ what, how, every, wire, seed }) {
    const base = new CausalLM(config, "base").initialize(seed);
    await tune(base, begin, { maxSteps: BEGIN, seed });
    const start = await base.store.read();
    const made = [];
    const policy = () => {
      const lora = { rank: 8, alpha: 16, targets: "all-linear" };
      const one = what === "LoRA" ? new CausalLM({ base, lora }).initialize(seed) : new CausalLM(config, "learner");
      if (what !== "LoRA") for (const p of one.store.parameters) p.value.write(start.get(p.name));
      made.push(one);
      return one;
    };
    const eval0 = (await evaluateSft(base, held)).eval_loss;
    const own = { maxSteps: STEPS, seed };
    let bytes = 0;
    let learned;
    if (how === "four learners") {
      const group = new LearnerGroup();
      const learners = Array.from({ length: LEARNERS }, (_, number) => {
        const one = group.learner(number + 1);
        return {
          ...one,
          async round(round, part) {
            bytes += part.length;
            return one.round(round, part);
          },
        };
      });
      const rounds = { dilocoSteps: every, dilocoWire: wire };
      const all = learners.map(() => policy());
      await Promise.all(
        learners.map((learner, i) => tune(all[i], train, { ...own, ...rounds }, { learners: learner })),
      );
      [learned] = all;
    } else {
      learned = policy();
      const large = how === "one learner" ? {} : { perDeviceTrainBatchSize: LEARNERS * BATCH };
      await tune(learned, train, { ...own, ...large });
    }
    const { eval_loss: loss } = await evaluateSft(learned, held);
    for (const model of [...made, base]) model.destroy();
    return { what, how, every, wire, seed, start: eval0, loss, bytes };
  }

  const until = Date.now() + 60_000 * Number(options.minutes ?? 1e6);
  for (const seed of SEEDS) {
    for (const one of cases) {
      if (known.has(key({ ...one, seed })) || Date.now() > until) continue;
      const found = await measure({ ...one, seed });
      kept.push(found);
      writeFileSync(jsonFile, `${JSON.stringify(kept, null, 1)}\n`);
      console.log(key({ ...one, seed }), found.loss.toFixed(4), found.bytes);
    }
  }
  const losses = (of) => kept.filter((found) => key({ ...found, seed: 0 }) === key({ ...of, seed: 0 }));
  const shown = (of) => {
    const all = losses(of).map(({ loss }) => loss);
    const mean = all.reduce((a, b) => a + b, 0) / all.length;
    return `${mean.toFixed(4)} (${all.map((loss) => loss.toFixed(3)).join(", ")})`;
  };
  const rows = cases
    .filter((of) => losses(of).length > 0)
    .map((of) => {
      const { what, how, every = "", wire = "" } = of;
      const [{ bytes }] = losses(of);
      const sent = bytes === 0 ? "" : `${(bytes / 2 ** 20).toFixed(2)}`;
      const steps = how === "one learner" ? STEPS * BATCH : STEPS * BATCH * LEARNERS;
      return `| ${what} | ${how} | ${every} | ${wire} | ${steps} | ${shown(of)} | ${sent} |`;
    });
  const starts = SEEDS.flatMap((seed) => kept.find((found) => found.seed === seed)?.start ?? []);
  const text = `# Several learners

\`node scripts/diloco.mjs\`: supervised fine-tuning on stories of the built-in world, a Llama of two layers and width 48 that has
taken ${BEGIN} steps, then ${STEPS} steps of ${BATCH} stories for each learner, at a constant rate of ${RATE}; adapters have rank 8. Four
learners meet every so many steps (outer rate 0.7, Nesterov momentum 0.9). Loss on 512 held-out stories: the mean over seeds, and
each; it starts at ${starts.map((loss) => loss.toFixed(3)).join(", ")}. MiB: what all learners handed in together.

| trained | by | steps between rounds | wire | stories seen | held-out loss | MiB |
|---|---|---|---|---|---|---|
${rows.join("\n")}
`;
  writeFileSync(path.join(folder, "diloco.md"), text);
});
process.exit(0);
