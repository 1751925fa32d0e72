/**
 * Low-rank adapters (LoRA, Hu et al. 2021). An adapter owns its small matrices, and copies of the modules that it trains
 * whole; the base model's weights are shared and frozen. It changes the base only while it is applied, so several
 * adapters (actor, critic, reward model) stand on one base, and the base itself is the model with its adapter off.
 *
 * Targets are the modules of Hugging Face's models: where several of them are one matrix here (q_proj, k_proj and v_proj),
 * each gets its own rows.
 */
import { copy } from "../gpu/stream.ts";
import { UserError } from "../runtime/errors.ts";
import { scope, Tensor } from "../tensor/core.ts";
import { doraWeight, mergeDora, rowLengths } from "../tensor/ops/dora.ts";
import { addLowRank } from "../tensor/ops/lora.ts";
import { Parameter } from "../tensor/params.ts";
import type { Weight } from "../tensor/quantized.ts";
import { within } from "./ambient.ts";
import type { DecoderConfig } from "./config.ts";
import type { Decoder, Sequences } from "./decoder.ts";
import type { HeadKind } from "./huggingface.ts";
import type { Ids } from "./layers.ts";
import type { Linear, LowRank } from "./linear.ts";
import type { LoraOptions } from "./lora-options.ts";
import { type LinearModule, type SavedParameter, savedParameters, targetModules } from "./lora-targets.ts";

/** A module of the Hugging Face model that an adapter adapts. */
export interface AdaptedModule {
  /** "model.layers.0.self_attn.q_proj". */
  readonly name: string;
  readonly rank: number;
  /** Holds this module's A in rows [rankOffset, rankOffset + rank). */
  readonly a: Parameter;
  readonly rankOffset: number;
  /** [rows, rank]; row i of the file's B is row order[i], where there is an order. */
  readonly b: Parameter;
  readonly order?: readonly number[];
  /** [rows], in the order of B's; null without DoRA. */
  readonly magnitude: Parameter | null;
}

/** A low-rank adapter: its own matrices, and the copies of modules that it trains whole. */
export class Adapter {
  readonly options: LoraOptions;
  /** The path of the base model, for adapter_config.json. */
  basePath = "";
  readonly modules: readonly AdaptedModule[];
  readonly saved: readonly SavedParameter[];
  private readonly layers: readonly { linear: Linear; lowRank: LowRank }[];
  private merged = false;

  /** Throws `UserError` when a name fits no module. */
  constructor(config: DecoderConfig, head: HeadKind, decoder: Decoder, options: LoraOptions) {
    this.options = options;
    const targets = targetModules(config, head, decoder, options);
    if (options.dora) for (const { linear } of targets) doraWeight(linear.weight.stored);
    const byLinear = new Map<Linear, LinearModule[]>();
    for (const target of targets) byLinear.set(target.linear, [...(byLinear.get(target.linear) ?? []), target]);
    const modules: AdaptedModule[] = [];
    this.layers = [...byLinear].map(([linear, parts], layer) => {
      const sized = parts.map((part) => ({ ...part, ...sizeOf(part.name, options) }));
      const total = sized.reduce((sum, { rank }) => sum + rank, 0);
      const inputs = linear.weight.shape[1];
      const a = new Parameter([total, inputs], initOf(options, inputs));
      a.name = `${sized.map((p) => p.name).join("+")}.lora_A`;
      let rankOffset = 0;
      const lowRank = sized.map(({ name, rank, scale, rows: [first, last], order }) => {
        const b = new Parameter([last - first, rank], { constant: 0 });
        b.maps = [[0, last - first]];
        b.name = `${name}.lora_B`;
        const magnitude = options.dora ? new Parameter([last - first], { constant: 1 }) : null;
        if (magnitude) magnitude.name = `${name}.lora_magnitude_vector`;
        modules.push({ name, rank, a, rankOffset, b, order, magnitude });
        const part = { b, rankOffset, first, scale, magnitude };
        rankOffset += rank;
        return part;
      });
      a.maps = lowRank.map(({ rankOffset: from }, i) => [from, from + sized[i].rank]);
      return { linear, lowRank: { a, parts: lowRank, layer, dropout: options.dropout ?? 0 } };
    });
    this.modules = modules;
    this.saved = savedParameters(config, decoder, options.modulesToSave ?? []);
  }

  /** Everything that is trained, the head apart (which the model owns). */
  get parameters(): Parameter[] {
    const lows = this.layers.flatMap(({ lowRank }) => [
      lowRank.a,
      ...lowRank.parts.flatMap((p) => [p.b, p.magnitude ?? []].flat()),
    ]);
    return [...lows, ...this.saved.map((s) => s.copy)];
  }

  /** Starts the copies from the base's values, and DoRA's lengths from those of the base's rows. */
  copyFromBase(): void {
    for (const { linear, lowRank } of this.layers) {
      for (const { magnitude, ...part } of lowRank.parts) {
        if (!magnitude) continue;
        const from = { ...part, b: part.b.value };
        scope(() => copyValues(rowLengths(linear.weight.value, lowRank.a.value, from), magnitude.value));
      }
    }
    for (const { original, copy: own } of this.saved) copyValues(original.stored, own.value);
  }

  /** Runs `fn` with the adapter on: the base's layers and saved modules are the adapter's as long as it runs. */
  apply<R>(fn: () => R): R {
    const before = this.layers.map(({ linear }) => linear.adapter);
    const values = this.saved.map(({ original }) => original.stored);
    if (!this.merged) for (const { linear, lowRank } of this.layers) linear.adapter = lowRank;
    for (const { original, copy: own } of this.saved) original.attach(own.value);
    try {
      return within({ adapter: this }, fn);
    } finally {
      this.layers.forEach(({ linear }, i) => {
        linear.adapter = before[i];
      });
      this.saved.forEach(({ original }, i) => {
        original.attach(values[i]);
      });
    }
  }

  /** Its update is in the base's weights. */
  get isMerged(): boolean {
    return this.merged;
  }

  /** Adds the update into the base's weights; the adapter then costs nothing, and the base is no reference any more. */
  merge(): void {
    this.addTo(1);
    this.merged = true;
  }

  /** Takes the update out of the base's weights again: they are what they were, within f32 rounding. */
  unmerge(): void {
    if (this.options.dora) throw new Error("a DoRA adapter cannot be taken out of the base again: open the base anew");
    this.addTo(-1);
    this.merged = false;
  }

  private addTo(sign: 1 | -1): void {
    if (this.merged === sign > 0) throw new Error(`the adapter is ${this.merged ? "merged already" : "not merged"}`);
    for (const { linear } of this.layers) {
      const { stored } = linear.weight;
      if (stored instanceof Tensor) continue;
      throw new UserError(`an adapter merges into float32 weights only, and the base is stored as ${stored.format}`);
    }
    scope(() => {
      for (const { linear, lowRank } of this.layers) {
        for (const { magnitude, ...part } of lowRank.parts) {
          const own = { ...part, b: part.b.value };
          const [weight, a] = [linear.weight.value, lowRank.a.value];
          if (magnitude) mergeDora(weight, a, { ...own, magnitude: magnitude.value });
          else addLowRank(weight, a, own, sign);
        }
      }
    });
  }
}

/** A decoder with an adapter on. */
export class AdaptedDecoder {
  readonly base: Decoder;
  private readonly adapter: Adapter;

  constructor(base: Decoder, adapter: Adapter) {
    this.base = base;
    this.adapter = adapter;
  }

  get config(): DecoderConfig {
    return this.base.config;
  }

  forward(ids: Ids | { gpu: Tensor; host?: undefined }, at: Sequences): Tensor {
    return this.adapter.apply(() => this.base.forward(ids, at));
  }
}

/** Copies a parameter's values on the GPU. */
export function copyValues(from: Weight, to: Tensor): void {
  if (from instanceof Tensor) copy(from.view, to.view, from.size * 4);
  else from.unpackInto(to);
}

function sizeOf(name: string, { rank, alpha, rsLora, exceptions }: LoraOptions): { rank: number; scale: number } {
  const own = exceptions?.get(name) ?? { rank, alpha };
  if (!Number.isInteger(own.rank) || own.rank < 1) throw new UserError(`lora_r must be at least 1, not ${own.rank}`);
  return { rank: own.rank, scale: own.alpha / (rsLora ? Math.sqrt(own.rank) : own.rank) };
}

// PEFT: kaiming_uniform with a = sqrt(5), i.e. a bound of sqrt(6 / (1 + 5) / in).
const initOf = ({ init, rank }: LoraOptions, inputs: number) =>
  init === "gaussian" ? { normal: 1 / rank } : { uniform: 1 / Math.sqrt(inputs) };
