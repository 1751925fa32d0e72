/* biome-ignore-all lint/suspicious/noTemplateCurlyInString: recipes hold references of this form */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { defineVerb, registerVerb, type Verb } from "webrlhf/cli";
import { parseRecipe, resolveRecipe } from "webrlhf/open";
import { group, settings } from "webrlhf/rlhf";
import { runRecipe, variableFlags } from "../../src/cli/verbs/run.ts";
import { silentTerminal } from "./terminal.ts";

const test = group("Test");
const table = settings("make", {
  input: test.path(null, "Input"),
  steps: test.int(1, "Steps", { min: 1 }),
  outputDir: test.path("out", "Folder"),
});

const recipe = {
  name: "demo",
  vars: { train: null, steps: 3 },
  stages: [
    { name: "first", verb: "make", options: { input: "${vars.train}", steps: "${vars.steps}" } },
    { name: "second", verb: "make", options: { input: "${output_dir}/first/model" } },
    { name: "alone", verb: "make" },
  ],
};

const resolve = (value: unknown, overrides = {}) =>
  resolveRecipe(
    parseRecipe("demo.yaml", value),
    "recipes",
    (name) => (name === "make" ? table : null),
    ["make"],
    overrides,
  );

describe("a recipe", () => {
  it("gives each stage its folder, its values and its inputs", () => {
    const { outputDir, stages } = resolve(recipe, { vars: { train: "pairs.jsonl" } });
    expect(outputDir).toBe("runs/demo");
    expect(stages.map((stage) => [stage.name, stage.outputDir, stage.options, stage.inputs])).toMatchObject([
      ["first", "runs/demo/first", { input: "pairs.jsonl", steps: 3, outputDir: "runs/demo/first" }, []],
      [
        "second",
        "runs/demo/second",
        { input: "runs/demo/first/model", steps: 1, outputDir: "runs/demo/second" },
        ["first"],
      ],
      ["alone", "runs/demo/alone", { input: null, steps: 1, outputDir: "runs/demo/alone" }, []],
    ]);
    expect(stages[1].portable.input).toBe("${output_dir}/first/model");
  });

  it("takes flags and --set for variables, options and the folder", () => {
    const { stages } = resolve(recipe, {
      outputDir: "elsewhere",
      vars: { train: "a" },
      set: ["steps=5", "second.steps=7", "stages.alone.steps=9"],
    });
    expect(stages.map((stage) => stage.options.steps)).toEqual([5, 7, 9]);
    expect(stages[2].outputDir).toBe("elsewhere/alone");
  });

  it.each([
    [{}, { set: [] }, 'stage "first": needs --train <value>'],
    [{}, { vars: { trian: "x" } }, '--trian: demo.yaml has no variable "trian" (did you mean "train"?)'],
    [
      {},
      { vars: { train: "x" }, set: ["alone.step=2"] },
      'there is no option step in stage "alone" of demo.yaml (did you mean "steps"?)',
    ],
    [{}, { set: ["nonsense"] }, "--set nonsense: write key=value"],
    [{ stages: [{ name: "a", verb: "mak" }] }, {}, 'stage "a": there is no verb "mak" (did you mean "make"?)'],
    [
      { stages: [{ name: "a", verb: "make", option: {} }] },
      {},
      'demo.yaml: unknown key "stages.0.option" (did you mean "options"?)',
    ],
    [{ stage: [] }, {}, 'demo.yaml: unknown key "stage" (did you mean "stages"?)'],
    [{ stages: [{ verb: "make" }] }, {}, 'demo.yaml: "stages.0.name" is missing'],
    [{ stages: [] }, {}, '"stages" must hold at least one stage'],
    [
      { stages: [{ name: "a", verb: "make", options: { input: "${vars.tran}" } }] },
      {},
      "unknown reference ${vars.tran} (did you mean",
    ],
    [
      {
        stages: [
          { name: "a", verb: "make" },
          { name: "a", verb: "make" },
        ],
      },
      {},
      'two stages are called "a"',
    ],
  ])("%j with %j is refused", (change, overrides, message) => {
    expect(() => resolve({ ...recipe, ...change }, overrides)).toThrow(message);
  });

  it("evaluates nothing", () => {
    const odd = { ...recipe, vars: { train: "${output_dir} $(rm) `x` ${1+1}", steps: 1 } };
    expect(resolve(odd).stages[0].options.input).toBe("${output_dir} $(rm) `x` ${1+1}");
  });

  it("takes unknown flags as variables", () => {
    expect(variableFlags(["--train", "a b", "--test=c=d"])).toEqual({ train: "a b", test: "c=d" });
    expect(() => variableFlags(["stray"])).toThrow('unexpected argument "stray"');
    expect(() => variableFlags(["--train"])).toThrow("--train needs a value");
  });
});

describe("running a recipe", () => {
  let dir: string;
  let forget: () => void;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "webrlhf-"));
  });
  afterEach(() => {
    forget();
    return rm(dir, { recursive: true });
  });

  /** Runs it with a verb that notes its calls; `failing` names a stage that breaks. */
  async function run(
    flags: { vars?: Record<string, string>; set?: string[]; failing?: string; force?: boolean } = {},
  ): Promise<string[]> {
    const calls: string[] = [];
    const make: Verb = defineVerb({
      name: "make",
      summary: "Make",
      settings: table,
      examples: [],
      async run(values, { label, resume }) {
        calls.push(`${label} ${values.steps}${resume ? " resumed" : ""}`);
        await writeFile(join(values.outputDir, "checkpoint-1"), "");
        if (label === flags.failing) throw new Error("broken");
      },
    });
    const file = join(dir, "demo.yaml");
    await writeFile(file, JSON.stringify({ ...recipe, output_dir: join(dir, "out") }));
    await writeFile(join(dir, "train.jsonl"), "{}");
    const terminal = silentTerminal();
    const context = { terminal, signal: new AbortController().signal, label: "run", resume: false };
    const vars = { train: join(dir, "train.jsonl"), ...flags.vars };
    forget = registerVerb(make);
    await runRecipe(file, { vars, set: flags.set, force: flags.force }, context).catch((error: Error) =>
      calls.push(error.message),
    );
    return calls;
  }

  it("skips finished stages and resumes the broken one", async () => {
    expect(await run({ failing: "second" })).toEqual(["first 3", "second 1", "broken"]);
    expect(await run({ failing: "second" })).toEqual(["second 1 resumed", "broken"]);
    expect(await run()).toEqual(["second 1 resumed", "alone 1"]);
    expect(await run()).toEqual([]);
    expect(await run({ force: true })).toHaveLength(3);
    const done = JSON.parse(await readFile(join(dir, "out/second/done.json"), "utf8"));
    expect(done).toMatchObject({ name: "second", verb: "make", inputs: ["first"], order: 1, options: { steps: 1 } });
  });

  it("repeats a stage whose options, input stage or input file changed, and only that", async () => {
    await run();
    expect(await run({ set: ["alone.steps=2"] })).toEqual(["alone 2"]);
    expect(await run({ vars: { steps: "4" }, set: ["alone.steps=2"] })).toEqual(["first 4", "second 1"]);
    await writeFile(join(dir, "other.jsonl"), "{}\n{}");
    expect(await run({ vars: { steps: "4", train: join(dir, "other.jsonl") }, set: ["alone.steps=2"] })).toEqual([
      "first 4",
      "second 1",
    ]);
  });

  it("does not take up the checkpoints of another attempt", async () => {
    await run({ failing: "first" });
    expect(await run({ vars: { steps: "9" }, failing: "first" })).toEqual(["first 9", "broken"]);
  });

  it("checks every option before anything runs", async () => {
    expect(await run({ set: ["alone.steps=0"] })).toEqual([
      expect.stringMatching(/^steps in stage "alone" of .*demo.yaml must be a whole number of at least 1, not "0"$/),
    ]);
  });
});
