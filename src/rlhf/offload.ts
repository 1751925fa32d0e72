/**
 * Memory by turns: while one part of a run works, the models and moments of the others wait on the host. The parts are
 * those of PaddleNLP: sampling and measuring (policy, reference), judging (reward model), valuing (critic), and an update of
 * the policy and one of the critic, each with its optimizer.
 */
import { UserError } from "../runtime/errors.ts";
import { spelled } from "../settings/index.ts";
import { type Evictable, withResident } from "../tensor/residency.ts";
import { model } from "./settings.ts";

/** freeze_model: reference and reward model; train_model: policy and critic; optimizer: their moments. */
export const offloadLevels = ["freeze_model", "optimizer", "train_model"] as const;
/** A group of models or moments that leave the GPU while they are not needed. */
export type OffloadLevel = (typeof offloadLevels)[number];

/** What leaves, as a setting; several levels may stand in one text, as in PaddleNLP's configurations. */
export const offloadSettings = {
  offloadLevel: model.list(
    [],
    "What leaves the GPU while it is not needed: freeze_model (reference, reward), optimizer, train_model",
  ),
};

/** The levels that settings name. Throws a UserError for others. */
export const levelsOf = (settings: { offloadLevel: readonly string[] }): OffloadLevel[] =>
  settings.offloadLevel
    .flatMap((word) => word.split(/\s+/))
    .filter(Boolean)
    .map((name) => {
      const level = offloadLevels.find((known) => known === name);
      if (level) return level;
      const setting = spelled(settings, "offloadLevel");
      throw new UserError(`${setting} knows ${offloadLevels.join(", ")}, not ${JSON.stringify(name)}`);
    });

/** A model's part in a run, or an optimizer's: it decides when its memory is on the GPU. */
export type ModelRole =
  | "policy"
  | "average"
  | "reference"
  | "reward"
  | "critic"
  | "policy optimizer"
  | "critic optimizer";

const levelOf: Record<ModelRole, OffloadLevel> = {
  policy: "train_model",
  average: "train_model",
  critic: "train_model",
  reference: "freeze_model",
  reward: "freeze_model",
  "policy optimizer": "optimizer",
  "critic optimizer": "optimizer",
};

/** Runs work with the models and moments of these roles on the GPU. */
export type RoleScope = <R>(roles: readonly ModelRole[], work: () => Promise<R>) => Promise<R>;

/** Nothing ever leaves. */
export const allResident: RoleScope = (_, work) => work();

export class Offload {
  private readonly levels: readonly OffloadLevel[];
  private readonly roles = new Map<ModelRole, readonly Evictable[]>();

  constructor(levels: readonly OffloadLevel[]) {
    this.levels = levels;
  }

  /** Gives a role its memory, which leaves at once, if it is of the levels. What other roles share of it leaves, too. */
  async add(role: ModelRole, residents: readonly Evictable[]): Promise<void> {
    this.roles.set(role, residents);
    if (this.levels.includes(levelOf[role])) for (const resident of residents) await resident.evict();
  }

  readonly within: RoleScope = (roles, work) => {
    const needed = roles.flatMap((role) => this.roles.get(role) ?? []);
    return withResident(needed, work);
  };
}
