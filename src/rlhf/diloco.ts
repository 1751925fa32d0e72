/**
 * DiLoCo (Douillard et al. 2023, arXiv 2311.08105): learners train apart for some steps; then an outer optimizer, Nesterov's, takes
 * the mean of what they changed for a gradient, and all go on from where it leads. What travels is one part of each learner for
 * each round. All numbers are summed in f32 in the order of the parts, so that every learner arrives at the same bits.
 */
import { parseSafetensors } from "../io/safetensors.ts";
import { writeSafetensors } from "../io/safetensors-write.ts";
import type { SelfSavingModel } from "../nn/trained.ts";
import { UserError } from "../runtime/errors.ts";
import { type FileContent, type Files, readNeeded } from "../runtime/files.ts";
import { uint32 } from "../runtime/rng.ts";
import { group, needs, type ResolvedSettings, spelled } from "../settings/index.ts";
import { type ParameterStore, readChunks, writeChunks } from "../tensor/params.ts";
import { type LearnerExchange, LearnerGroup } from "./learners.ts";
import type { RunOptions, TrainerSteps } from "./loop.ts";

const diloco = group("Several learners");

/** How learners go together. */
export const learnerSettings = {
  dilocoSteps: diloco.int(
    null,
    "Steps that a learner takes by itself between rounds (DiLoCo); default: one learner, no rounds",
    {
      min: 1,
    },
  ),
  dilocoOuterLr: diloco.float(0.7, "Learning rate of the outer optimizer; 1 without momentum takes the mean", {
    min: 0,
    effect: needs("dilocoSteps"),
  }),
  dilocoOuterMomentum: diloco.float(0.9, "Nesterov momentum of the outer optimizer", {
    min: 0,
    effect: needs("dilocoSteps"),
  }),
  dilocoWire: diloco.choice(
    ["float32", "int8"],
    "float32",
    "How changes travel: as they are, or in 8 bits, whose errors are added to the next round's",
    { effect: needs("dilocoSteps") },
  ),
};

/** The settings of several learners, resolved. */
export type LearnerSettings = ResolvedSettings<typeof learnerSettings>;

/** The seed of a learner's own randomness, such as the order of its data; the first one's is the run's. */
export const seedOf = (seed: number, learners?: LearnerExchange): number =>
  learners && learners.number > 1 ? uint32(seed, 0x10ca1, learners.number) : seed;

const FILE = "outer.safetensors";

/** Values that share a scale where they travel in 8 bits. */
const BLOCK = 64;

/** How parameters travel: one part holds all of them. */
interface Wire {
  /** What a learner changed, as bytes; `error` is what earlier parts lost, and is brought up to date. */
  write(point: Float32Array, values: Float32Array, error: Float32Array): Uint8Array;
  /** Where that learner is. Throws a UserError where the bytes are not such a part. */
  read(point: Float32Array, bytes: Uint8Array): Float32Array;
}

const wires: Readonly<Record<LearnerSettings["dilocoWire"], Wire>> = {
  float32: {
    write: (_, values) => new Uint8Array(values.slice().buffer),
    read(point, bytes) {
      checkPart(bytes, 4 * point.length);
      return new Float32Array(bytes.slice().buffer);
    },
  },
  int8: {
    write(point, values, error) {
      const scales = new Float32Array(Math.ceil(point.length / BLOCK));
      const codes = new Int8Array(point.length);
      for (let block = 0; block < scales.length; block++) {
        const [from, to] = [block * BLOCK, Math.min(point.length, (block + 1) * BLOCK)];
        let most = 0;
        for (let i = from; i < to; i++) most = Math.max(most, Math.abs(values[i] - point[i] + error[i]));
        scales[block] = most / 127;
        for (let i = from; i < to; i++) {
          const change = values[i] - point[i] + error[i];
          codes[i] = scales[block] > 0 ? Math.max(-127, Math.min(127, Math.round(change / scales[block]))) : 0;
          error[i] = change - codes[i] * scales[block];
        }
      }
      const part = new Uint8Array(scales.byteLength + codes.byteLength);
      part.set(new Uint8Array(scales.buffer));
      part.set(new Uint8Array(codes.buffer), scales.byteLength);
      return part;
    },
    read(point, bytes) {
      const blocks = Math.ceil(point.length / BLOCK);
      checkPart(bytes, 4 * blocks + point.length);
      const scales = new Float32Array(bytes.slice(0, 4 * blocks).buffer);
      const codes = new Int8Array(bytes.slice(4 * blocks).buffer);
      return point.map((value, i) => value + codes[i] * scales[Math.floor(i / BLOCK)]);
    },
  },
};

function checkPart(bytes: Uint8Array, size: number): void {
  if (bytes.length === size) return;
  throw new UserError(
    `a learner handed in ${bytes.length} bytes, and this model's are ${size}: all learners need the same model, adapter and diloco_wire`,
  );
}

/** Where all learners stood after the last round, and what the outer optimizer and this learner remember. */
export class OuterState implements SelfSavingModel {
  readonly store: ParameterStore;
  /** Rounds that led here. */
  rounds = 0;
  #point: Float32Array;
  #velocity: Float32Array;
  #error: Float32Array;
  readonly #sizes: readonly number[];
  readonly #settings: LearnerSettings;

  constructor(store: ParameterStore, settings: LearnerSettings) {
    this.store = store;
    this.#settings = settings;
    this.#sizes = store.chunks.map(({ size }) => size);
    const all = this.#sizes.reduce((a, b) => a + b, 0);
    this.#point = new Float32Array(all);
    this.#velocity = new Float32Array(all);
    this.#error = new Float32Array(all);
  }

  /** Takes the parameters as they are for the start of a round. */
  async begin(): Promise<void> {
    this.#point = await this.#values();
  }

  /** This learner's part of the round that ends. */
  async part(): Promise<Uint8Array> {
    return wires[this.#settings.dilocoWire].write(this.#point, await this.#values(), this.#error);
  }

  /** Takes the outer step from the parts of a round; the parameters are where it leads afterwards. Returns what it did. */
  end(parts: readonly Uint8Array[]): { learners: number; change: number } {
    if (parts.length === 0) throw new Error("a round needs a part");
    const { dilocoOuterLr: rate, dilocoOuterMomentum: momentum, dilocoWire } = this.#settings;
    const mean = new Float32Array(this.#point.length);
    for (const part of parts) {
      const values = wires[dilocoWire].read(this.#point, part);
      for (let i = 0; i < mean.length; i++) mean[i] += values[i];
    }
    let change = 0;
    for (let i = 0; i < mean.length; i++) {
      mean[i] /= parts.length;
      const gradient = this.#point[i] - mean[i];
      const velocity = Math.fround(momentum * this.#velocity[i] + gradient);
      // point - rate * (gradient + momentum * velocity), from the mean: a rate of 1 without momentum is the mean, to the bit.
      const next = Math.fround(mean[i] - ((rate - 1) * gradient + rate * momentum * velocity));
      change += (next - this.#point[i]) ** 2;
      this.#velocity[i] = velocity;
      this.#point[i] = next;
    }
    this.rounds += 1;
    this.#write();
    return { learners: parts.length, change: Math.sqrt(change) };
  }

  /** What every learner has alike, for one that comes later. */
  shared(): Uint8Array {
    const both = new Float32Array(2 * this.#point.length);
    both.set(this.#point);
    both.set(this.#velocity, this.#point.length);
    return new Uint8Array(both.buffer);
  }

  /** Goes on from where the others are. What this learner did since its last round is lost: none of it counts. */
  join({ rounds, state }: { rounds: number; state: Uint8Array }): { learners: number; change: number } {
    checkPart(state, 8 * this.#point.length);
    const both = new Float32Array(state.slice().buffer);
    this.rounds = rounds;
    this.#point = both.slice(0, this.#point.length);
    this.#velocity = both.slice(this.#point.length);
    this.#error.fill(0);
    this.#write();
    return { learners: 0, change: 0 };
  }

  async files(): Promise<Record<string, FileContent>> {
    const entry = (data: Float32Array | Uint32Array) => ({ shape: [data.length], data });
    const values = { point: entry(this.#point), velocity: entry(this.#velocity), error: entry(this.#error) };
    return { [FILE]: writeSafetensors({ ...values, rounds: entry(Uint32Array.of(this.rounds)) }) };
  }

  async restore(files: Files, folder: string): Promise<void> {
    const path = `${folder}/${FILE}`;
    const saved = parseSafetensors(
      await readNeeded(files, path, "the checkpoint is of a run without diloco_steps"),
      path,
    );
    const get = (name: string) => {
      const { data } = saved.get(name);
      if (data.length === this.#point.length) return data.slice();
      throw new UserError(`${path} has ${data.length} values, and this model ${this.#point.length}`);
    };
    this.#point = get("point");
    this.#velocity = get("velocity");
    this.#error = get("error");
    this.rounds = saved.getRaw("rounds").data[0] as number;
  }

  #write(): void {
    let at = 0;
    const chunks = this.#sizes.map((size) => {
      at += size;
      return this.#point.subarray(at - size, at);
    });
    writeChunks(
      this.store.chunks.map(({ values }) => values),
      chunks,
    );
  }

  async #values(): Promise<Float32Array> {
    const chunks = await readChunks(this.store.chunks.map(({ values }) => values));
    const all = new Float32Array(this.#point.length);
    let at = 0;
    for (const chunk of chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    return all;
  }
}

/**
 * A trainer's steps with rounds between them. `run.learners` are the others; without them there is one learner, whose outer
 * optimizer still works.
 * @throws UserError where there are others and no setting of when rounds are
 */
export function inRounds<P>(
  steps: TrainerSteps<P>,
  store: ParameterStore,
  settings: Partial<LearnerSettings>,
  { learners, signal }: Pick<RunOptions, "learners" | "signal">,
): TrainerSteps<P> {
  const { dilocoSteps: every = null } = settings;
  if (every === null) {
    if (!learners || !("dilocoSteps" in settings)) return steps; // the loop refuses others where a trainer has no rounds
    throw new UserError(
      `several learners need ${spelled(settings, "dilocoSteps")}: the steps that each takes between rounds`,
    );
  }
  const others = learners ?? new LearnerGroup().learner(1);
  const state = new OuterState(store, settings as LearnerSettings);
  let ending: Promise<unknown> = Promise.resolve();
  const offer = () => others.offer(state.rounds, () => state.shared());
  const round = async () => {
    const found = await others.round(state.rounds, await state.part(), signal);
    const { learners: count, change } = "state" in found ? state.join(found) : state.end(found.parts);
    await offer();
    return { diloco_round: state.rounds, diloco_learners: count, diloco_change: change };
  };
  return {
    ...steps,
    kept: { ...steps.kept, diloco: { model: state } },
    async from(first) {
      const entered = await others.enter();
      if (entered && entered.rounds > state.rounds) {
        state.join(entered);
        await offer();
        return Math.min(steps.maxSteps, entered.rounds * every);
      }
      if (first === 0) await state.begin();
      return first;
    },
    async prepare(step, tell, clock) {
      await clock.during("learners", () => ending);
      return (await steps.prepare?.(step, tell, clock)) as P;
    },
    step(step, prepared, tell, clock) {
      const taken = steps.step(step, prepared, tell, clock);
      if ((step + 1) % every !== 0 && step + 1 !== steps.maxSteps) return taken;
      const whole = taken.then(async (result) => {
        const joined = await clock.during("learners", round);
        return { ...result, metrics: { ...result.metrics, ...joined } };
      });
      ending = whole.catch(() => {}); // who takes the step hears of it
      return whole;
    },
  };
}
