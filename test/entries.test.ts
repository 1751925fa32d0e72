import { beforeAll, expect, it } from "vitest";
import { tensor as inner, openDevice, scope, tensor } from "webrlhf";
import { registerSchema, registerSchema as schemas, worldPrompts } from "webrlhf/data";
import { CausalLM, CausalLM as model } from "webrlhf/nn";
import { trainSft as trainer, trainSft } from "webrlhf/rlhf";

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
