import { afterEach } from "vitest";
import type { Model } from "webrlhf/nn";

/** Hands a model back and destroys it when the test is over; call it once per file. */
export function keeper(): <M extends Model>(model: M) => M {
  const opened: Model[] = [];
  afterEach(() => {
    for (const model of opened.splice(0)) model.destroy();
  });
  return (model) => {
    opened.push(model);
    return model;
  };
}
