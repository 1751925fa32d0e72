/** Responses that are measured while others are still drawn. */
import type { CausalLM } from "../nn/models.ts";
import { type Measured, Measuring } from "./measure.ts";
import type { Response } from "./sampler.ts";

/** Responses, and what each model makes of them. */
export interface DrawnAndMeasured {
  responses: Response[];
  found: Measured[];
}

/**
 * Measures responses under models while they are drawn. Passes have the same responses in them, in the same order, whenever those
 * come, so that the numbers are those of responses that are measured together in the end.
 * @param samples responses of each prompt
 * @param temperature that logits are divided by
 * @param draw gives the responses in their order, and says of some before, in any order, where it can
 * @throws UserError naming the model whose log-probabilities are not finite
 */
export async function measuredWhileDrawn(
  models: readonly CausalLM[],
  samples: number,
  temperature: number,
  draw: (heard: (responses: readonly Response[]) => void) => Promise<Response[]>,
): Promise<DrawnAndMeasured> {
  const begin = () => models.map((model) => new Measuring(model, temperature));
  const ended = (all: readonly Measuring[]) => Promise.allSettled(all.map((one) => one.end()));
  let measuring = begin();
  /** What has come, each in its place; up to the first that is missing it is being measured. */
  const come: (Response | undefined)[] = [];
  let given = 0;
  const give = (responses: readonly Response[]) => {
    for (const one of measuring) one.add(responses);
  };
  let responses: Response[];
  try {
    responses = await draw((some) => {
      for (const response of some) come[response.prompt * samples + response.sample] = response;
      for (let response = come[given]; response; response = come[++given]) give([response]);
    });
  } catch (error) {
    await ended(measuring);
    throw error;
  }
  // Whoever draws may have made something else of them since.
  if (come.slice(0, given).some((response, i) => !isSame(response as Response, responses[i]))) {
    await ended(measuring);
    measuring = begin();
    given = 0;
  }
  give(responses.slice(given));
  await ended(measuring);
  return { responses, found: await Promise.all(measuring.map((one) => one.end())) };
}

/** They are the same to a model. */
function isSame(one: Response, other: Response | undefined): boolean {
  if (!other || one.promptLength !== other.promptLength || one.learned !== other.learned) return false;
  if (one.pads !== other.pads || one.ids.length !== other.ids.length) return false;
  return one.ids === other.ids || one.ids.every((id, t) => id === other.ids[t]);
}
