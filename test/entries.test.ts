import { beforeAll, expect, it } from "vitest";
import { openDevice, scope, tensor } from "webrlhf";
import { registerSchema, worldPrompts } from "webrlhf/data";
import { CausalLM } from "webrlhf/nn";
import { trainSft } from "webrlhf/rlhf";
import { registerSchema as schemas } from "../src/data/schemas.ts";
import { CausalLM as model } from "../src/nn/models.ts";
import { trainSft as trainer } from "../src/rlhf/sft.ts";
import { tensor as inner } from "../src/tensor/core.ts";

beforeAll(() => openDevice());

it("finds under the package's own name the files that the tests import by path", () => {
  expect([tensor, registerSchema, CausalLM, trainSft]).toEqual([inner, schemas, model, trainer]);
  expect(tensor).toBe(inner);
  expect(CausalLM).toBe(model);
});

it("computes and makes data in every runtime", async () => {
  const sum = scope(() => tensor([1, 2, 3], [3]));
  expect([...(await sum.read())]).toEqual([1, 2, 3]);
  expect(worldPrompts(2, 1)).toHaveLength(2);
});
