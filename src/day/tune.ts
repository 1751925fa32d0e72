/** Looks for the fastest kernels of an adapter: each product of a model by the table's choice and by all others, in turn. */
import { type Caps, openDevice } from "../gpu/device.ts";
import type { MatmulVariant } from "../gpu/product.ts";
import { keepTuning, type TunedProduct, type Tuning, tokenClass, useTuning } from "../gpu/tuning.ts";
import { tabledVariant } from "../gpu/variants.ts";
import { noise } from "../runtime/noise.ts";
import { gemm } from "../tensor/ops/gemm.ts";
import {
  ACCEPTED,
  candidates,
  candidatesOnCpu,
  type DayProduct,
  errorOf,
  productsOf,
  say,
  shapeOf,
} from "./items/products.ts";
import { type DayModel, dayModelFor } from "./models.ts";
import { noiseTensor } from "./noise.ts";
import { Budget, pace } from "./pace.ts";

/** A product that was tuned, and the outcome. */
export interface TunedStep {
  /** "qkv NT 64x960x576" */
  what: string;
  /** What the table chooses, and what is faster; null where nothing is. */
  tabled: string;
  faster: string | null;
  gain: number;
}

/** Options of `tune`. */
export interface TuneOptions {
  /** Whose products are tuned. Default: SmolLM2-135M's shape, and a tiny one on CPU adapters. */
  model?: DayModel | undefined;
  /** Seconds for all products together. Default 20. */
  seconds?: number;
  /** Hears of each product as it is over. */
  tell?(step: TunedStep): void;
  signal?: AbortSignal;
}

/** Result of `tune`. */
export interface Tuned {
  /** How many products go by other kernels than the table's from now on. */
  products: number;
  /** The model that they are of. */
  model: string;
  /** Where it is kept. */
  where: string;
}

/**
 * Finds the fastest kernels of this machine's adapter and keeps them for later programs on it: in Node in a file, in browsers in a
 * database of the page's origin. On GPUs other kernels may round otherwise; on CPU adapters all give the same bits. Opens the
 * device where none is open; use nothing else on it meanwhile. Keeps nothing where it is stopped, and throws the signal's reason.
 * @throws UserError where there is no adapter, or no place to keep anything
 */
export async function tune(options: TuneOptions = {}): Promise<Tuned> {
  const caps = await openDevice();
  const model = options.model ?? dayModelFor(caps.kind);
  const tuning = await tuneProducts(caps, { ...options, model });
  return { products: tuning.products.length, model: model.name, where: await keepTuning(tuning) };
}

/** A gain below this may be noise, and is not worth a kernel more. */
const WORTH = 1.05;

/**
 * The fastest kernels for a model's products on the open adapter, whose capabilities these are. Every one is checked against
 * float64 first; one is faster where it is in each of two rounds. What was tuned before is put aside. Throws the signal's reason.
 */
export async function tuneProducts(
  caps: Caps,
  { model, seconds = 20, tell, signal }: TuneOptions & { model: DayModel },
): Promise<Tuning> {
  useTuning(null);
  const budget = new Budget(seconds);
  const found: TunedProduct[] = [];
  const all = productsOf(model);
  for (const [at, product] of all.entries()) {
    signal?.throwIfAborted();
    const { name, mode, sizes } = product;
    const [m, n, k] = sizes;
    const tabled = tabledVariant(caps, { mode, m, n, k, batch: 1 });
    const best = await fastest(caps, product, tabled, budget.shareOf(all.length - at));
    const what = `${name} ${mode} ${m}x${n}x${k}`;
    tell?.({ what, tabled: say(tabled), faster: best && say(best.variant), gain: best?.gain ?? 1 });
    if (!best) continue;
    const [tokens, rest]: [number, [number, number]] = mode === "TN" ? [k, [m, n]] : [m, [n, k]];
    found.push({ mode, type: "f32", tokens: tokenClass(tokens), sizes: rest, ...best });
  }
  return { adapter: caps.name, driver: caps.driver ?? "", products: found };
}

/** What computes the product faster than the table's choice in both rounds, the fastest of those; null where nothing does. */
async function fastest(
  caps: Caps,
  product: DayProduct,
  tabled: MatmulVariant,
  seconds: number,
): Promise<{ variant: MatmulVariant; gain: number } | null> {
  const { mode, sizes } = product;
  const others = (caps.kind === "hardware" ? candidates : candidatesOnCpu)(product, tabled);
  const [shapeA, shapeB] = shapeOf(mode, sizes);
  const [a, b] = [noiseTensor(shapeA, 1), noiseTensor(shapeB, 2)];
  const values = [noise(a.size, 1), noise(b.size, 2)] as const;
  const run = (variant: MatmulVariant) => gemm(a, b, mode, sizes, { variant });
  try {
    const sound: MatmulVariant[] = [];
    for (const variant of others) {
      const c = run(variant);
      const error = errorOf(product, values, (await c.read()) as Float32Array);
      c.free("the tuner");
      if (error <= ACCEPTED) sound.push(variant);
    }
    const each = seconds / 2 / (1 + sound.length);
    const gains = sound.map(() => Number.POSITIVE_INFINITY);
    for (let round = 0; round < 2; round++) {
      const usual = await pace(() => void run(tabled), each);
      for (const [i, variant] of sound.entries()) {
        const { median } = await pace(() => void run(variant), each);
        gains[i] = Math.min(gains[i], usual.median / median);
      }
    }
    const most = gains.indexOf(Math.max(...gains));
    return most >= 0 && gains[most] >= WORTH ? { variant: sound[most], gain: round(gains[most]) } : null;
  } finally {
    for (const t of [a, b]) t.free("the tuner");
  }
}

const round = (gain: number): number => Math.round(gain * 100) / 100;
