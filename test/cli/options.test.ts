import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Context, defineVerb } from "webrlhf/cli";
import { methods } from "webrlhf/open";
import {
  DerivedDefault,
  expectation,
  group,
  inFile,
  onCommandLine,
  type ResolvedSettings,
  settings,
} from "webrlhf/rlhf";
import { commandOf, normaliseFlags, readYaml } from "../../src/cli/flags.ts";
import { loadVerb, verbNames } from "../../src/cli/verbs/index.ts";
import { schemaOf, snakeCase } from "../../src/settings/index.ts";
import { nearest } from "../../src/settings/nearest.ts";
import { silentTerminal } from "./terminal.ts";

const verbs = (await Promise.all(verbNames().map(loadVerb))).filter((verb) => verb !== null);

const test = group("Test");
const table = {
  learningRate: test.float(1e-4, "rate", { min: 0, aka: ["lr"] }),
  maxSteps: test.int(null, "steps", { min: 1 }),
  flavour: test.choice(["paddle", "trl"], "paddle", "flavour"),
  whitenRewards: test.bool(false, "whiten"),
  outputDir: test.path("out", "folder"),
  names: test.list(["a"], "names"),
};

const record = settings("test", table);
const from = (values: Record<string, unknown>) => record.resolve([inFile(values, "x.yaml")]);

describe("option values", () => {
  it("come from defaults, then each source in turn", () => {
    const sources = [inFile({ learning_rate: 0.5, max_steps: 3 }, "x.yaml"), onCommandLine({ learning_rate: "0.25" })];
    expect({ ...record.resolve(sources) }).toMatchObject({
      learningRate: 0.25,
      maxSteps: 3,
      flavour: "paddle",
      whitenRewards: false,
      outputDir: "out",
      names: ["a"],
    });
  });

  it("are turned from text into the option's type", () => {
    expect(
      from({ learning_rate: "2e-5", max_steps: "1e3", whiten_rewards: "True", names: "b, c", output_dir: 2024 }),
    ).toMatchObject({
      learningRate: 2e-5,
      maxSteps: 1000,
      whitenRewards: true,
      names: ["b", "c"],
      outputDir: "2024",
    });
    expect(from({ max_steps: "none" }).maxSteps).toBeNull();
  });

  it("take hyphens and other spellings", () => {
    expect(from({ "max-steps": 2, lr: 1 })).toMatchObject({ maxSteps: 2, learningRate: 1 });
    expect(() => from({ lr: 1, learning_rate: 2 })).toThrow(
      "lr in x.yaml and learning_rate in x.yaml are the same option",
    );
  });

  it.each([
    [{ learning_rat: 1 }, 'there is no option learning_rat in x.yaml (did you mean "learning_rate"?)'],
    [{ qqqqqqqqqqqqq: 1 }, "there is no option qqqqqqqqqqqqq in x.yaml"],
    [{ learning_rate: -1 }, "learning_rate in x.yaml must be a number of at least 0, not -1"],
    [{ learning_rate: "fast" }, 'learning_rate in x.yaml must be a number of at least 0, not "fast"'],
    [{ max_steps: 1.5 }, "max_steps in x.yaml must be a whole number of at least 1, or none, not 1.5"],
    [{ flavour: "safe" }, 'flavour in x.yaml must be one of paddle, trl, not "safe"'],
    [{ whiten_rewards: "maybe" }, 'whiten_rewards in x.yaml must be true or false, not "maybe"'],
    [{ output_dir: null }, "output_dir in x.yaml must be a path, not null"],
  ])("%j is refused", (values, message) => {
    expect(() => from(values)).toThrow(message);
  });

  it("are lists of texts, whatever YAML makes of them", () => {
    for (const names of ["0.5,1", [0.5, 1], ["0.5", 1]]) expect(from({ names }).names).toEqual(["0.5", "1"]);
    expect(from({ names: 2 }).names).toEqual(["2"]);
  });

  it("name the option that is required and not set", () => {
    const needy = settings("needy", { model: test.path(null, "model", { required: true }) });
    expect(() => needy.resolve([onCommandLine({})])).toThrow("--model is not set");
  });
});

describe("the tables", () => {
  for (const { name, settings: entries } of verbs) {
    it(`of ${name} has good defaults, names and words`, () => {
      const seen = new Set<string>();
      for (const [key, option] of Object.entries(entries.table)) {
        for (const spelling of [snakeCase(key), ...(option.aka ?? [])]) {
          expect(spelling).toMatch(/^[a-z][a-z0-9_]*$/);
          expect(seen).not.toContain(spelling);
          seen.add(spelling);
        }
        if (option.default !== null && !(option.default instanceof DerivedDefault)) {
          const { default: value } = option;
          expect(() => settings("x", { [key]: option }).resolve([inFile({ [key]: value }, "x")])).not.toThrow();
        }
        expect(schemaOf(option)).toBeDefined();
        expect(expectation(option)).not.toBe("");
        expect(option.help).toMatch(/^[A-Z].*[^.]$/);
      }
    });
  }
});

describe("nearest", () => {
  it("finds typing mistakes and leaves strangers alone", () => {
    expect(nearest("kl_coff", ["kl_coef", "gamma"])).toBe("kl_coef");
    expect(nearest("zzz", ["kl_coef", "gamma"])).toBeNull();
  });
});

describe("flags", () => {
  it("may be written with hyphens, underscores or a no", () => {
    expect(
      normaliseFlags(["sft", "--max-steps", "a-b", "--learning-rate=1e-3", "--no-resume", "--", "--as-is"]),
    ).toEqual(["sft", "--max_steps", "a-b", "--learning_rate=1e-3", "--resume=false", "--", "--as-is"]);
  });
});

describe("a command", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "webrlhf-"));
  });
  afterEach(() => rm(dir, { recursive: true }));

  async function parse(...words: string[]): Promise<ResolvedSettings<typeof table>> {
    let got: ResolvedSettings<typeof table> | null = null;
    const verb = defineVerb({
      name: "test",
      summary: "Test",
      settings: record,
      examples: [],
      run: async (values) => {
        got = values;
      },
    });
    const context: Context = {
      terminal: silentTerminal(),
      signal: new AbortController().signal,
      label: "test",
      resume: false,
    };
    await commandOf(verb, () => context)
      .exitOverride()
      .parseAsync(normaliseFlags(words), { from: "user" });
    return got!;
  }

  it("lets flags win over the config file", async () => {
    const config = join(dir, "c.yaml");
    await writeFile(config, "learning_rate: 2e-5\nmax_steps: 7\n");
    expect(await parse("--config", config, "--lr", "3", "--whiten-rewards")).toMatchObject({
      learningRate: 3,
      maxSteps: 7,
      whitenRewards: true,
    });
  });

  it("names the file and the nearest key for an unknown one", async () => {
    const config = join(dir, "c.yaml");
    await writeFile(config, "max_step: 7\n");
    await expect(parse("--config", config)).rejects.toThrow(
      `there is no option max_step in ${config} line 1 (did you mean "max_steps"?)`,
    );
  });

  it("gives file and line of broken YAML, and the name of a missing file", async () => {
    const config = join(dir, "c.yaml");
    await writeFile(config, "a: 1\nb: [1, 2\n");
    await expect(readYaml(config)).rejects.toThrow(`${config}:3:1: `);
    await writeFile(config, "- a\n");
    await expect(readYaml(config)).rejects.toThrow('must hold "key: value" lines');
    await expect(readYaml(join(dir, "none.yaml"))).rejects.toThrow("none.yaml: cannot be read (ENOENT)");
  });

  it("groups its options in --help, with defaults", () => {
    const verb = defineVerb({
      name: "test",
      summary: "Test",
      settings: methods.ppo.settings,
      examples: ["webrlhf ppo"],
      run: async () => {},
    });
    const help = commandOf(verb, () => null as never).helpInformation();
    for (const heading of ["Model:", "Data:", "Rollout:", "PPO:", "Optimisation:"]) expect(help).toContain(heading);
    expect(help.replace(/\s+/g, " ")).toContain("Lambda of GAE (default: 0.95)");
  });
});
