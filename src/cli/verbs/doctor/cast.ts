/** The models and the data of a rehearsal. */
import { CausalLM, ScoreModel } from "../../../nn/models.ts";
import type { WeightFormat } from "../../../tensor/quantize.ts";
import type { MemoryPlan } from "./plan.ts";

/** Everybody in a run: the models that the trainer opens, with what they share. */
export class Cast {
  /** What adapters stand on; without adapters, the policy itself. */
  readonly base: CausalLM;
  readonly policy: CausalLM;
  private readonly plan: MemoryPlan;

  constructor(plan: MemoryPlan, label: string) {
    const { config, lora, format, checkpointing } = plan;
    this.plan = plan;
    this.base = lora ? new CausalLM(config, "base model", format) : new CausalLM(config, label);
    this.policy = lora ? new CausalLM({ base: this.base, lora }, label) : this.base;
    this.base.gradientCheckpointing = checkpointing;
  }

  /** A second model like the policy. */
  another(label: string): CausalLM {
    const { config, lora } = this.plan;
    return lora ? new CausalLM({ base: this.base, lora }, label) : new CausalLM(config, label);
  }

  /** The reference; null where the run has none. */
  reference(): CausalLM | null {
    const { reference, lora, adapted, config, format, referenceFormat } = this.plan;
    if (reference === null) return null;
    if (reference === "start" && lora) return adapted ? this.another("reference") : this.base;
    return new CausalLM(config, "reference", referenceFormat === "auto" ? format : referenceFormat);
  }

  rewardModels(): ScoreModel[] {
    const { rewardModels, rewardFormat, format } = this.plan;
    const kept = rewardFormat === "auto" ? format : rewardFormat;
    return Array.from({ length: rewardModels }, () => this.scorer("reward model", kept));
  }

  critic(): ScoreModel {
    const critic = this.scorer("critic", "float32");
    critic.gradientCheckpointing = this.plan.criticCheckpointing;
    return critic;
  }

  private scorer(label: string, kept: WeightFormat): ScoreModel {
    const { config, lora } = this.plan;
    return lora ? new ScoreModel({ base: this.base, lora }, label) : new ScoreModel(config, label, kept);
  }
}

/** Longest sequences, of tokens spread over the vocabulary: the embedding's gradient takes memory by how often one comes. */
export const sequences = (
  n: number,
  { length, responseLength, config }: Pick<MemoryPlan, "length" | "responseLength" | "config">,
) =>
  Array.from({ length: n }, (_, i) => ({
    ids: Uint32Array.from({ length }, (_, t) => ((i * length + t) * 7919) % config.vocabSize),
    promptLength: Math.max(1, length - responseLength),
  }));

/** Longest pairs; both answers are labelled, for those who ask. */
export function pairs(n: number, plan: MemoryPlan) {
  const all = sequences(2 * n, plan);
  return all.slice(0, n).map(({ ids, promptLength }, i) => {
    return { chosen: ids, rejected: all[n + i].ids, promptLength, safety: { chosen: true, rejected: false } };
  });
}
