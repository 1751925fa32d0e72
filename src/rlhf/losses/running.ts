/** Running statistics of a run, kept on the GPU so that no step waits for them. */
import { noGrad, type Tensor, tensor } from "../../tensor/core.ts";
import { add, scale, sub } from "../../tensor/ops/elementwise.ts";
import { place } from "../../tensor/raw.ts";

/** The mean of all batches' means so far, each counting once (as TRL's running moments of a scalar). */
export class RunningMean {
  /** Batches seen. */
  count = 0;
  private readonly mean: Tensor = tensor([0]);

  /** Takes a batch's mean [1] in; returns the mean with it. No gradient flows through either. */
  update(batchMean: Tensor): Tensor {
    this.count += 1;
    return noGrad(() => {
      const mean = add(this.mean, scale(sub(batchMean, this.mean), 1 / this.count));
      place(this.mean, mean, 0);
      return mean;
    });
  }

  /** The mean so far, [1]; stays as long as this object does. */
  get value(): Tensor {
    return this.mean;
  }

  async save(): Promise<{ mean: number; count: number }> {
    return { mean: (await this.mean.read())[0], count: this.count };
  }

  load({ mean, count }: { mean: number; count: number }): void {
    this.mean.write(new Float32Array([mean]));
    this.count = count;
  }

  destroy(): void {
    this.mean.free("the running mean");
  }
}
