/**
 * The gate of a multi-objective reward model: from the prompt's embedding to the weight of every attribute. An MLP with
 * ReLU, whose outputs go through a softmax with a temperature and a learned scale.
 */
import type { DropoutScope } from "../../nn/ambient.ts";
import { needHalf } from "../../nn/models.ts";
import { Module } from "../../nn/module.ts";
import type { Tensor } from "../../tensor/core.ts";
import { halfOf } from "../../tensor/half-copies.ts";
import { cast } from "../../tensor/ops/cast.ts";
import { dropout } from "../../tensor/ops/dropout.ts";
import { mul, relu, scale } from "../../tensor/ops/elementwise.ts";
import { linear } from "../../tensor/ops/matmul.ts";
import { softmax } from "../../tensor/ops/softmax.ts";
import { Parameter, ParameterStore } from "../../tensor/params.ts";

/** The sizes of a gate. */
export interface GateShape {
  /** Width of the prompt's embedding. */
  inputs: number;
  attributes: number;
  /** Width and number of the hidden layers. */
  hiddenSize: number;
  hiddenLayers: number;
  /** Divides the outputs before the softmax. */
  temperature: number;
}

/** A linear layer that starts as PyTorch's: uniform in plus or minus 1 / sqrt(inputs). */
class DenseLayer extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(inputs: number, outputs: number) {
    super();
    const uniform = 1 / Math.sqrt(inputs);
    this.weight = new Parameter([outputs, inputs], { uniform });
    this.bias = new Parameter([outputs], { uniform });
  }
}

/** The network that weighs the attributes by the prompt. */
export class GatingNetwork extends Module {
  private readonly layers: DenseLayer[];
  readonly logit_scale: Parameter;
  readonly shape: GateShape;
  readonly store: ParameterStore;
  private inHalf = false;

  constructor(shape: GateShape) {
    super();
    const { inputs, attributes, hiddenSize, hiddenLayers } = shape;
    const widths = [inputs, ...Array<number>(hiddenLayers).fill(hiddenSize), attributes];
    this.layers = widths.slice(1).map((outputs, i) => new DenseLayer(widths[i], outputs));
    this.logit_scale = new Parameter([1], { constant: 1 });
    this.shape = shape;
    this.store = new ParameterStore(this.parameters(), "gate");
  }

  /**
   * Half precision: products read f16, and hidden layers are f16; weights, sums, outputs and the softmax stay f32. For training
   * with `AdamWOptions.lossScaling`. Default off. Throws `UserError` where the GPU has no f16.
   */
  set half(on: boolean) {
    if (on) needHalf();
    else this.store.freeHalf();
    this.inHalf = on;
  }

  get half(): boolean {
    return this.inHalf;
  }

  /**
   * Weights of the attributes, [N, attributes]: positive, and of every row adding up to the learned scale.
   * @param x prompt embeddings [N, inputs]
   * @param drop the key of the masks after every hidden layer, in training, and the share that they drop
   */
  forward(x: Tensor, drop: (DropoutScope & { rate: number }) | null = null): Tensor {
    const { half } = this;
    const last = this.layers.length - 1;
    let h = half ? cast(x, "f16") : x;
    for (const [i, { weight, bias }] of this.layers.entries()) {
      const type = half && i < last ? "f16" : "f32";
      h = linear(h, half ? halfOf(weight.stored) : weight.value, { bias: bias.value, type });
      if (i === last) break;
      h = relu(h);
      if (drop) h = dropout(h, { ...drop, layer: i });
    }
    return mul(softmax(scale(h, 1 / this.shape.temperature)), this.logit_scale.value);
  }

  destroy(): void {
    this.store.destroy();
  }
}
