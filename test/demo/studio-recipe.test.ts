/** The command lines that the studio gives are what the program reads, word for word, and mean the settings of the run. */
import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { methods as library } from "webrlhf/open";
import { inCode, inFile } from "webrlhf/rlhf";
import {
  bounds,
  continued,
  type Knobs,
  knobNames,
  knobsOf,
  methods,
  quoted,
  repeated,
  settingsOf,
  wrongKnob,
} from "../../demo/src/studio/recipe.ts";
import { parsed } from "../cli/parse.ts";

/** A line as a shell splits it. */
const words = (line: string): string[] =>
  execFileSync("sh", ["-c", `printf '%s\\0' ${line}`], { encoding: "utf8" })
    .split("\0")
    .slice(0, -1);

const places = {
  model: "org/it's a model",
  data: "my run/$(touch x) `y`.jsonl",
  reward: null,
  output: "out/new",
};
const placesOf = (method: string) => ({ ...places, reward: method === "iterate" ? "judge-1" : null });

describe.each(methods)("%s of the studio", (method) => {
  const settings = settingsOf(method, knobsOf(method), "int8");

  it("has settings that the library takes, all with effect", () => {
    const needed = {
      model_name_or_path: "m",
      dataset_name: "d",
      ...(method === "iterate" && { reward_model_path: "r" }),
    };
    const resolved = library[method].settings.resolve([inCode({ ...needed, ...settings })]);
    expect(resolved).toMatchObject({
      usePeft: true,
      loraR: 8,
      loraAlpha: 16,
      dtype: "int8",
      maxSteps: knobsOf(method).maxSteps,
    });
  });

  it("is repeated by its command line", async () => {
    const [program, ...line] = words(repeated(method, settings, placesOf(method)));
    expect(program).toBe("webrlhf");
    const { values } = await parsed(line);
    const asked = library[method].settings.resolve([
      inFile(
        {
          model_name_or_path: places.model,
          dataset_name: places.data,
          ...settings,
          ...(method === "iterate" && { reward_model_path: "judge-1", base_model_name_or_path: places.model }),
        },
        "x",
      ),
    ]);
    for (const [key, value] of Object.entries(asked)) expect(values[key], key).toEqual(value);
    expect(values.outputDir).toBe("out/new");
  });

  it("goes on from its adapter, without a second one", async () => {
    const { values } = await parsed(words(continued(method, settings, placesOf(method), "my adapter")).slice(1));
    expect(values).toMatchObject({
      modelNameOrPath: "my adapter",
      baseModelNameOrPath: places.model,
      usePeft: false,
      learningRate: settings.learning_rate,
      dtype: "int8",
    });
  });

  it("names the knob that is out of its bounds", () => {
    const knobs = knobsOf(method);
    expect(wrongKnob(method, knobs)).toBeNull();
    for (const name of knobNames(method)) {
      const { min, max, whole } = bounds[name];
      const wrong = [min - 1, max * 2, Number.NaN, undefined, ...(whole ? [min + 0.5] : [])];
      for (const value of wrong) expect(wrongKnob(method, { ...knobs, [name]: value } as Knobs), name).toBe(name);
    }
  });
});

describe("a word for the shell", () => {
  it("comes out as it went in", () => {
    const hard = [
      "a",
      "",
      "it's",
      "$HOME",
      "`x`",
      "a b",
      "-x",
      "*",
      '"',
      "\\",
      "\n",
      "ü",
      "a;b",
      "~",
      "#a",
      "!x",
      "a'b'c",
    ];
    expect(words(hard.map(quoted).join(" "))).toEqual(hard);
  });
});
