/** A dataset's parts: to train on, and held out. */
import { counted } from "./counts.ts";
import { splitRecords } from "./readers.ts";
import type { DataRecord } from "./records.ts";

/** One split per dataset: what one run holds out, no other run trains on, whatever its seed. */
const SPLIT_SEED = 0;

/** The two parts of a dataset, to train on and held out; each is made when it is first asked for. */
export interface Split<E> {
  readonly train: E[];
  readonly eval: E[];
}

/** The parts of records; what was read and left out is told of those that are trained on. */
export function splitCounted<R extends DataRecord>(records: readonly R[], testSize: number): { train: R[]; test: R[] } {
  const { train, test } = splitRecords(records, testSize, SPLIT_SEED);
  return { train: counted(train, records), test };
}

/** Both parts, each made once, when it is first asked for. */
export function splitOf<E>(train: () => E[], held: () => E[]): Split<E> {
  let [first, second]: (E[] | undefined)[] = [];
  return {
    get train() {
      first ??= train();
      return first;
    },
    get eval() {
      second ??= held();
      return second;
    },
  };
}
