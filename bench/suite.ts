/** All cases in one run, and the record of it. Other libraries join as peers; webrlhf brings none itself. */

import { cpus, loadavg } from "node:os";
import { caps, type KernelTime, openDevice } from "webrlhf";
import { adamwCase } from "./adamw.ts";
import { attentionCase } from "./attention.ts";
import { decodeCase } from "./decode.ts";
import { type Case, type CaseResult, describe, measure, quick, usual } from "./harness.ts";
import { tokenLogProbsCase } from "./logprobs.ts";
import { type Mode, type Multiplier, matmulCase, webrlhfProduct } from "./matmul.ts";
import { type RuntimeFigures, runtimeFigures, type Stepper, trainingCase } from "./training.ts";

/** Another library that does some of the same work. */
export interface Peer {
  readonly name: string;
  readonly version: string;
  readonly matmul?: Multiplier;
  readonly trainStep?: Stepper;
}

export interface SuiteOptions {
  /** Only cases whose name contains this. */
  only?: string;
  /** Fewer and shorter samples. */
  quick?: boolean;
  peers?: readonly Peer[];
  /** Takes each line as soon as it is known. */
  print(line: string): void;
}

export interface BenchReport {
  readonly adapter: string;
  readonly runtime: string;
  readonly cpu: string;
  /** Processes that wanted the CPU on average over the minute before the first and after the last case. */
  readonly load: readonly [before: number, after: number];
  readonly peers: Record<string, string>;
  readonly cases: readonly CaseResult[];
  readonly steadyState: RuntimeFigures | null;
}

const squares: [number, Mode[]][] = [
  [256, ["NN"]],
  [512, ["NN", "NT", "TN"]],
  [1024, ["NN", "NT", "TN"]],
];

/** Forward, input gradient and weight gradient of a projection in a batch of 2,048 tokens. */
const projection: [number, number, number, Mode][] = [
  [2048, 384, 128, "NT"],
  [2048, 128, 384, "NN"],
  [384, 128, 2048, "TN"],
];

function allCases(peers: readonly Peer[]): Case[] {
  const multipliers = [webrlhfProduct, ...peers.flatMap((peer) => peer.matmul ?? [])];
  const steppers = peers.flatMap((peer) => peer.trainStep ?? []);
  const types = caps().f16 ? (["f32", "f16"] as const) : (["f32"] as const);
  const attention = { sequences: 1, length: 256, heads: 9, headDim: 64 };
  return [
    ...squares.flatMap(([n, modes]) => modes.map((mode) => matmulCase(n, n, n, mode, multipliers))),
    ...projection.map(([m, n, k, mode]) => matmulCase(m, n, k, mode, multipliers)),
    ...types.flatMap((type) => [
      attentionCase(attention, "forward", type),
      attentionCase(attention, "forward+backward", type),
    ]),
    tokenLogProbsCase(256, 128, 8192),
    adamwCase(4 * 2 ** 20),
    trainingCase(steppers),
    decodeCase(1),
    decodeCase(32),
  ];
}

const STEADY = "steady state";

/** Runs the cases one after the other and gathers their figures. */
export async function runSuite({
  only = "",
  quick: short = false,
  peers = [],
  print,
}: SuiteOptions): Promise<BenchReport> {
  await openDevice();
  const effort = short ? quick : usual;
  const before = loadavg()[0];
  const wanted = (name: string) => name.toLowerCase().includes(only.toLowerCase());
  const cases: CaseResult[] = [];
  for (const test of allCases(peers)) {
    if (!wanted(test.name)) continue;
    const result = await measure(test, effort);
    cases.push(result);
    for (const line of describe(result)) print(line);
  }
  let steadyState: RuntimeFigures | null = null;
  if (wanted(STEADY)) {
    steadyState = await runtimeFigures(short ? 50 : 1000);
    for (const line of steadyLines(steadyState)) print(line);
  }
  return {
    adapter: caps().name,
    runtime: `Node ${process.versions.node}`,
    cpu: `${cpus().length} x ${cpus()[0]?.model.trim() ?? "unknown"}`,
    load: [before, loadavg()[0]],
    peers: Object.fromEntries(peers.map(({ name, version }) => [name, version])),
    cases,
    steadyState,
  };
}

function steadyLines(f: RuntimeFigures): string[] {
  const row = (what: string, value: string) => `${what.padEnd(53)} ${value}`;
  return [
    row(`${STEADY}: dispatches per training step`, String(f.dispatchesPerStep)),
    row(
      `${STEADY}: encoding, per dispatch`,
      `${f.encodeMicroseconds.toFixed(2)} µs (best step ${f.encodeBestMicroseconds.toFixed(2)})`,
    ),
    row(`${STEADY}: encoding and submitting, per dispatch`, `${f.submitMicroseconds.toFixed(2)} µs`),
    row(`${STEADY}: bind-group hits from step 3`, `${(f.bindGroupHitRate * 100).toFixed(2)} %`),
    row(`${STEADY}: buffers created from step 3 to ${f.steps}`, String(f.buffersCreatedAfterStep3)),
    row(`${STEADY}: pool bytes at step 3 and at the end`, `${f.poolBytesAtStep3} ${f.poolBytesAtEnd}`),
  ];
}

/** A profile as a table, the slowest kernel first. */
export function profileLines(times: readonly KernelTime[]): string[] {
  const total = times.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const row = (kernel: string, dispatches: string, time: string, share: string) =>
    `${kernel.padEnd(32)} ${dispatches.padStart(10)} ${time.padStart(12)} ${share.padStart(7)}`;
  return [
    row("kernel", "dispatches", "ms", "share"),
    ...times.map(({ kernel, dispatches, milliseconds: ms }) =>
      row(kernel, String(dispatches), ms.toFixed(2), `${((100 * ms) / total).toFixed(1)} %`),
    ),
  ];
}
