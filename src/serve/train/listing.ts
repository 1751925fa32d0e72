/** What a training server says of the runs and the saved weights that it has. */
import { ApiError } from "../errors.ts";
import { type About, isRun, type Kind, type Place, pathOf, placeOf } from "./checkpoints.ts";
import type { Context } from "./context.ts";
import type { TrainedModels } from "./trained.ts";

const MOST_LISTED = 1000;
const types: Record<Kind, string> = { weights: "training", sampler_weights: "sampler", external_weights: "external" };
const iso = (ms: number): string => new Date(ms).toISOString();

type Saved = { place: Place; about: About };

const card = ({ place, about }: Saved): object => ({
  checkpoint_id: `${place.kind}/${place.name}`,
  checkpoint_type: types[place.kind],
  time: iso(about.created),
  tinker_path: pathOf(place),
  size_bytes: about.bytes,
  public: false,
  user_metadata: about.userMetadata,
  expires_at: about.expires === null ? null : iso(about.expires),
});

export class Listing {
  private readonly context: Pick<Context, "checkpoints" | "models">;
  private readonly trained: TrainedModels;

  constructor(context: Pick<Context, "checkpoints" | "models">, trained: TrainedModels) {
    this.context = context;
    this.trained = trained;
  }

  /** The saved weights of a run, or of all. */
  async checkpoints(run: string | null, query: URLSearchParams): Promise<object> {
    if (run !== null) this.check(run);
    const all = (await this.context.checkpoints.list(run ?? undefined)).filter(({ about }) => !about.passing);
    const { part, cursor } = page(all.reverse(), query);
    return { checkpoints: part.map(card), cursor };
  }

  /** All runs, the newest first. */
  async runs(query: URLSearchParams): Promise<object> {
    const { part, cursor } = page(await this.all(), query);
    return { training_runs: part, cursor };
  }

  async run(id: string): Promise<object> {
    this.check(id);
    const found = (await this.all()).find((run) => run.training_run_id === id);
    if (found) return found;
    throw new ApiError(404, `There is no run ${id}: nothing of it is saved, and it is not in training.`);
  }

  /** What a client must know to go on from saved weights. */
  async weights(path: string): Promise<object> {
    const about = await this.context.checkpoints.about(placeOf(path));
    return {
      base_model: about.base,
      is_lora: true,
      lora_rank: about.rank,
      train_attn: about.trainAttn,
      train_mlp: about.trainMlp,
      train_unembed: false,
    };
  }

  /** Deletes saved weights. */
  async remove(run: string, kind: string, name: string): Promise<object> {
    await this.context.checkpoints.remove(placeOf(`tinker://${run}/${kind}/${name}`));
    return {};
  }

  private check(run: string): void {
    if (!isRun(run)) throw new ApiError(404, `There is no run ${run.slice(0, 200)}.`);
  }

  private async all() {
    const saved = await this.context.checkpoints.list();
    const live = this.trained.list.map(({ id, rank, userMetadata, askedAt }) => ({ id, rank, userMetadata, askedAt }));
    const runs = new Map(live.map((one) => [one.id, one]));
    for (const { place, about } of saved) {
      const known = runs.get(place.run);
      const askedAt = Math.max(known?.askedAt ?? 0, about.created);
      runs.set(place.run, { id: place.run, rank: about.rank, userMetadata: about.runMetadata, askedAt });
    }
    const last = (id: string, kind: Kind) =>
      saved.findLast(({ place, about }) => place.run === id && place.kind === kind && !about.passing);
    return [...runs.values()]
      .sort((a, b) => b.askedAt - a.askedAt)
      .map(({ id, rank, userMetadata, askedAt }) => {
        const [state, sampler] = [last(id, "weights"), last(id, "sampler_weights")];
        return {
          training_run_id: id,
          base_model: this.context.models.base.name,
          model_owner: "webrlhf",
          is_lora: true,
          corrupted: false,
          lora_rank: rank,
          last_request_time: iso(askedAt),
          last_checkpoint: state ? card(state) : null,
          last_sampler_checkpoint: sampler ? card(sampler) : null,
          user_metadata: userMetadata,
        };
      });
  }
}

/** The part of a list that was asked for. */
function page<T>(all: readonly T[], query: URLSearchParams): { part: T[]; cursor: object } {
  const whole = (name: string, usual: number, most: number) => {
    const value = Number(query.get(name) ?? usual);
    if (Number.isInteger(value) && value >= 0 && value <= most) return value;
    throw new ApiError(400, `${name} must be a whole number from 0 to ${most}`, { param: name });
  };
  const limit = whole("limit", 100, MOST_LISTED);
  const offset = whole("offset", 0, Number.MAX_SAFE_INTEGER);
  return { part: all.slice(offset, offset + limit), cursor: { offset, limit, total_count: all.length } };
}
