/**
 * Products that were split along k and whose parts nobody has added up yet. Whoever asks for the values gets them added up first;
 * an op that reads each of them once adds them up itself, which is a dispatch less. For GPUs, where nothing is recorded.
 */
import { type BufferView, release } from "../../gpu/pool.ts";
import { type Late, type Tensor, willRecord } from "../core.ts";

/** A product as parts, f32 [splits, m, n], to whose sum a tensor is added, if any. */
export class Unsummed implements Late {
  readonly splits: number;
  private readonly parts: BufferView;
  private readonly add: BufferView | undefined;
  private readonly addUp: () => void;
  private readonly letGo: (() => void) | undefined;

  constructor(parts: BufferView, splits: number, add: Tensor | undefined, addUp: () => void) {
    this.parts = parts;
    this.splits = splits;
    this.add = add?.view;
    this.addUp = addUp;
    this.letGo = add?.hold();
  }

  settle(): void {
    this.addUp();
    this.drop();
  }

  /** Gives back what it holds. */
  drop(): void {
    release(this.parts);
    this.letGo?.();
  }

  /** Part of a kernel's name. */
  get name(): string {
    return this.add ? "parts_add" : "parts";
  }

  /** Whether something is added. */
  get adds(): boolean {
    return this.add !== undefined;
  }

  /** What kernels of rows bind, see unsummed.wgsl.ts. */
  get bindings(): Record<string, string> {
    return { parts: "read F", ...(this.add ? { add: "read F" } : {}) };
  }

  get views(): BufferView[] {
    return [this.parts, ...(this.add ? [this.add] : [])];
  }
}

/** The parts of x where it is an unsummed product and none of the inputs wants a gradient. */
export const unsummed = (x: Tensor, inputs: readonly Tensor[] = [x]): Unsummed | null =>
  x.late instanceof Unsummed && !willRecord(inputs) ? x.late : null;
