/** Dropout of activations. */
import { record, type Tensor } from "../core.ts";
import { applyDropout, type DropoutKey } from "./lora.ts";

export type { DropoutKey };

/** x with elements dropped at random and the others scaled up, so that the expectation stays. The key alone decides which. */
export function dropout(x: Tensor, key: DropoutKey): Tensor {
  if (key.rate === 0) return x;
  return record("dropout", [x], applyDropout(x, key), (dy, [sink]) => [
    applyDropout(dy, key, typeof sink === "object" ? sink : undefined),
  ]);
}
