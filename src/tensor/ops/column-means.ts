/** The mean of a table's rows, whatever the table is stored as and however large it is. Not recorded. */
import { noGrad, scope, type Tensor, tensor, zeros } from "../core.ts";
import type { Weight } from "../quantized.ts";
import { addInto } from "../raw.ts";
import { scale } from "./elementwise.ts";
import { gatherRows } from "./embedding.ts";
import { sum } from "./reduce.ts";

const ROWS = 4096; // gathered at once

/** table [V, D] -> [D]; reads all of it once. */
export function columnMeans(table: Weight): Tensor {
  const [rows, columns] = table.shape;
  return noGrad(() =>
    scope(() => {
      const total = zeros([columns]);
      for (let first = 0; first < rows; first += ROWS) {
        const part = Uint32Array.from({ length: Math.min(ROWS, rows - first) }, (_, i) => first + i);
        scope(() => {
          addInto(total, sum(gatherRows(table, tensor(part)), 0));
        });
      }
      return scale(total, 1 / rows);
    }),
  );
}
