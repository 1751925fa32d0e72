import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { commandOf, normaliseFlags, readYaml } from "../../src/cli/command.ts";
import { nearest } from "../../src/cli/nearest.ts";
import { expectation, options, resolveOptions, schemaOf, type Values } from "../../src/cli/option.ts";
import { ppoOptions } from "../../src/cli/options/ppo.ts";
import { type Context, defineVerb } from "../../src/cli/verb.ts";
import { verbs } from "../../src/cli/verbs/index.ts";
import { silentTerminal } from "./terminal.ts";

const group = options("Test");
const table = {
  learning_rate: group.float(1e-4, "rate", { min: 0, aliases: ["lr"] }),
  max_steps: group.int(null, "steps", { min: 1 }),
  dialect: group.choice(["paddle", "trl"], "paddle", "dialect"),
  whiten_rewards: group.bool(false, "whiten"),
  output_dir: group.path("out", "folder"),
  names: group.list(["a"], "names"),
};

const from = (values: Record<string, unknown>) => resolveOptions(table, [{ where: "x.yaml", values }]);

describe("option values", () => {
  it("come from defaults, then each source in turn", () => {
    const sources = [
      { where: "x.yaml", values: { learning_rate: 0.5, max_steps: 3 } },
      { where: "command line", values: { learning_rate: "0.25" } },
    ];
    expect(resolveOptions(table, sources)).toEqual({
      learning_rate: 0.25,
      max_steps: 3,
      dialect: "paddle",
      whiten_rewards: false,
      output_dir: "out",
      names: ["a"],
    });
  });

  it("are turned from text into the option's type", () => {
    expect(
      from({ learning_rate: "2e-5", max_steps: "1e3", whiten_rewards: "True", names: "b, c", output_dir: 2024 }),
    ).toMatchObject({
      learning_rate: 2e-5,
      max_steps: 1000,
      whiten_rewards: true,
      names: ["b", "c"],
      output_dir: "2024",
    });
    expect(from({ max_steps: "none" }).max_steps).toBeNull();
  });

  it("take hyphens and other spellings", () => {
    expect(from({ "max-steps": 2, lr: 1 })).toMatchObject({ max_steps: 2, learning_rate: 1 });
    expect(() => from({ lr: 1, learning_rate: 2 })).toThrow('x.yaml: "lr" and "learning_rate" are the same option');
  });

  it.each([
    [{ learning_rat: 1 }, 'x.yaml: unknown option "learning_rat" (did you mean "learning_rate"?)'],
    [{ qqqqqqqqqqqqq: 1 }, 'x.yaml: unknown option "qqqqqqqqqqqqq"'],
    [{ learning_rate: -1 }, "x.yaml: learning_rate must be a number of at least 0, not -1"],
    [{ learning_rate: "fast" }, 'x.yaml: learning_rate must be a number of at least 0, not "fast"'],
    [{ max_steps: 1.5 }, "x.yaml: max_steps must be a whole number of at least 1, or none, not 1.5"],
    [{ dialect: "safe" }, 'x.yaml: dialect must be one of paddle, trl, not "safe"'],
    [{ whiten_rewards: "maybe" }, 'x.yaml: whiten_rewards must be true or false, not "maybe"'],
    [{ output_dir: null }, "x.yaml: output_dir must be a path, not null"],
  ])("%j is refused", (values, message) => {
    expect(() => from(values)).toThrow(message);
  });

  it("are lists of texts, whatever YAML makes of them", () => {
    for (const names of ["0.5,1", [0.5, 1], ["0.5", 1]]) expect(from({ names }).names).toEqual(["0.5", "1"]);
    expect(from({ names: 2 }).names).toEqual(["2"]);
  });

  it("name the option that is required and not set", () => {
    const needy = { model: group.path(null, "model", { required: true }) };
    expect(() => resolveOptions(needy, [])).toThrow("model is not set: pass --model");
  });
});

describe("the tables", () => {
  for (const { name, options: entries } of verbs) {
    it(`of ${name} has good defaults, names and words`, () => {
      const seen = new Set<string>();
      for (const [key, option] of Object.entries(entries)) {
        for (const spelling of [key, ...(option.aliases ?? [])]) {
          expect(spelling).toMatch(/^[a-z][a-z0-9_]*$/);
          expect(seen).not.toContain(spelling);
          seen.add(spelling);
        }
        if (option.default !== null)
          expect(() =>
            resolveOptions({ [key]: option }, [{ where: "x", values: { [key]: option.default } }]),
          ).not.toThrow();
        expect(schemaOf(option)).toBeDefined();
        expect(expectation(option)).not.toBe("");
        expect(option.description).toMatch(/^[A-Z].*[^.]$/);
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

  async function parse(...words: string[]): Promise<Values<typeof table>> {
    let got: Values<typeof table> | null = null;
    const verb = defineVerb({
      name: "test",
      summary: "Test",
      options: table,
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
      learning_rate: 3,
      max_steps: 7,
      whiten_rewards: true,
    });
  });

  it("names the file and the nearest key for an unknown one", async () => {
    const config = join(dir, "c.yaml");
    await writeFile(config, "max_step: 7\n");
    await expect(parse("--config", config)).rejects.toThrow(
      `${config}: unknown option "max_step" (did you mean "max_steps"?)`,
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
      options: ppoOptions,
      examples: ["webrlhf ppo"],
      run: async () => {},
    });
    const help = commandOf(verb, () => null as never).helpInformation();
    for (const heading of ["Model:", "Data:", "Rollout:", "PPO:", "Optimisation:"]) expect(help).toContain(heading);
    expect(help.replace(/\s+/g, " ")).toContain("Lambda of GAE (default: 0.95)");
  });
});
