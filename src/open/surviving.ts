/**
 * Runs that outlive their GPU device. When it is lost (a driver that was reset, a GPU process that crashed), a new one is
 * opened, the models are opened anew, and the run goes on from its last checkpoint. Whoever takes its events sees each of
 * them once, as in a run that lost nothing, and a warning besides.
 */
import { adapterName, caps, device, deviceLoss, onStandIn, reopenDevice } from "../gpu/device.ts";
import { DeviceLostError, deviceFailure, type OutOfMemoryError } from "../gpu/failures.ts";
import type { TrainEvent } from "../rlhf/events.ts";
import type { RunOptions } from "../rlhf/loop.ts";
import { UserError } from "../runtime/errors.ts";
import { memoryFiles } from "../runtime/files.ts";

/** A run whose models are on the GPU. */
export interface ClosableRun {
  /** Trains. It is called once, or once again on a new device after the old one was lost. */
  train(run?: RunOptions): AsyncGenerator<TrainEvent>;
  /** Frees the models. */
  close(): void;
}

export { deviceFailure, OutOfMemoryError } from "../gpu/failures.ts";

/** Device failures that are survived, and what is said of the last one. */
export class Patience {
  private losses = 0;
  private outOfMemory = false;
  private gpu = device();
  private name = caps().name;
  private readonly lower: string;
  private readonly next: string;

  /**
   * @param lower what to do against a lack of memory: "lower max_length"
   * @param next what to do when the GPU works again: "run it again"
   */
  constructor(
    lower = "use a smaller batch, a shorter context or a smaller model",
    next = "resume from the last checkpoint",
  ) {
    this.lower = lower;
    this.next = next;
  }

  /** Something new was done: earlier losses no longer count. */
  progress(): void {
    this.losses = 0;
  }

  /** Whoever meets the next failure has met none yet. */
  forget(): void {
    this.losses = 0;
    this.outOfMemory = false;
  }

  /**
   * Opens a new device where an error came of a failure of the old one.
   * @param error thrown again where it is another one
   * @param free gives back what is on the old device
   * @returns what happened, for people
   * @throws UserError when it is not worth another try
   */
  async renew(error: unknown, free: () => void): Promise<string> {
    if (onStandIn()) throw error;
    const failure = deviceFailure(error) ?? (await deviceLoss(this.gpu));
    if (!failure) throw error;
    this.count(failure);
    const before = this.name;
    this.name = (await reopenDevice(this.gpu)).name;
    this.gpu = device();
    free(); // of what is gone already; what is counted elsewhere must know
    return this.name === before ? failure.message : `${failure.message}; the new one is ${this.name}`;
  }

  private count(failure: DeviceLostError | OutOfMemoryError): void {
    if (failure instanceof DeviceLostError) {
      this.losses += 1;
      if (this.losses <= MOST_LOSSES) return;
      const often = `${failure.message}, ${this.losses} times without a step between`;
      throw new UserError(`${often}: check the GPU and its driver, then ${this.next}`, {
        cause: failure,
      });
    }
    if (this.outOfMemory) {
      throw new UserError(`out of GPU memory, twice: ${failure.what}: ${this.lower}`, { cause: failure });
    }
    this.outOfMemory = true;
  }
}

/** Losses without progress between that are survived: the next one looks like a GPU that no longer works. */
const MOST_LOSSES = 3;

/**
 * Opens a run that outlives its device. Without a folder its checkpoints are kept in memory.
 * @param open is called for every device; `again` after the first
 * @param lower what to do against a lack of memory: "lower max_length". One lack is met with a new, empty device.
 */
export async function surviving<R extends ClosableRun>(
  open: (again: boolean) => Promise<R>,
  lower?: string,
): Promise<R> {
  const patience = new Patience(lower);
  const opened = async (first: boolean): Promise<R> => {
    for (let again = !first; ; again = true) {
      try {
        return await open(again);
      } catch (error) {
        await patience.renew(error, () => {});
      }
    }
  };
  let run = await opened(true);
  let closed = false;
  const close = () => {
    if (!closed) run.close();
    closed = true;
  };
  async function* train(options: RunOptions = {}): AsyncGenerator<TrainEvent> {
    const inMemory = options.folder === undefined;
    const folder = options.folder ?? { files: memoryFiles(), path: "run" };
    const told = new Told();
    let resume = options.resume ?? false;
    for (;;) {
      try {
        for await (const event of run.train({ ...options, folder, resume })) {
          resume ||= event.type === "start"; // from here on the folder's checkpoints are this run's own
          if (!told.isNew(event)) continue;
          if (event.type === "step") patience.progress();
          if (!(inMemory && event.type === "checkpoint")) yield told.whole(event);
        }
        return;
      } catch (error) {
        const what = await patience.renew(error, close);
        run = await opened(false);
        closed = false;
        yield { type: "warning", step: told.step, text: `${what}; going on from the last checkpoint` };
      }
    }
  }
  return { ...run, train, close };
}

/** One of several tries of the same work. */
export interface Attempt {
  /** There was another one before, whose device failed. */
  readonly again: boolean;
  /** Something was done that the next attempt need not do: earlier losses no longer count. */
  progress(): void;
}

/**
 * Does work that trains nothing: from its start, and once more on a new device where the old one failed. It opens what it
 * needs by itself, and gives it back also when it fails.
 * @param say is told what happened
 */
export async function persisting<R>(
  work: (attempt: Attempt) => Promise<R>,
  say: (text: string) => void,
  signal?: AbortSignal,
): Promise<R> {
  let patience: Patience | null = null;
  const progress = () => patience?.progress();
  for (let again = false; ; again = true) {
    try {
      return await work({ again, progress });
    } catch (error) {
      if (signal?.aborted || adapterName() === null) throw error;
      patience ??= new Patience(undefined, "run the same command again");
      say(`${await patience.renew(error, () => {})}; going on on a new device`);
    }
  }
}

/** What a run's consumer has been told. A run that goes on from a checkpoint says once more what came after that. */
class Told {
  step = -1;
  private metrics: Record<string, number> = {};
  private started = false;
  /** Events of the last step, by type; and those of the same step that come again. */
  private seen: Record<string, number> = {};
  private again: Record<string, number> = {};

  /** Whether an event is not a repeated one. */
  isNew(event: TrainEvent): boolean {
    const { type, step } = event;
    if (type === "start") {
      this.again = {};
      const first = !this.started;
      this.started = true;
      return first;
    }
    if (type === "note") return true;
    if (step > this.step) {
      this.step = step;
      this.seen = {};
      this.again = {};
    }
    if (step < this.step) return false;
    this.again[type] = (this.again[type] ?? 0) + 1;
    if (this.again[type] <= (this.seen[type] ?? 0)) return false;
    this.seen[type] = this.again[type];
    if (type === "step") this.metrics = event.metrics;
    if (type === "eval") this.metrics = { ...this.metrics, ...event.metrics };
    return true;
  }

  /** The event as a run that lost nothing gives it: one that went on after its last step does not know that step's numbers. */
  whole(event: TrainEvent): TrainEvent {
    const forgot = event.type === "end" && Object.keys(event.metrics).length === 0;
    return forgot ? { ...event, metrics: this.metrics } : event;
  }
}
