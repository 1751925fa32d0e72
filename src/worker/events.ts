/** What can be known of events without knowing their program. */
import type { Granularity, Program } from "./contract.ts";

type Plain = Record<string, unknown>;
const plain = (value: unknown): Plain | null => (typeof value === "object" && value !== null ? (value as Plain) : null);

const GRANULARITIES = new Set<unknown>(["token", "phase", "rollout", "step"]);

/** What a trainer's event ends, or what a trainer's event within another one does. */
export function endsOf(event: unknown): Granularity | undefined {
  const at = plain(event);
  if (!at) return undefined;
  return GRANULARITIES.has(at.type) ? (at.type as Granularity) : endsOf(at.event);
}

/** Fields that say where an event stands in its run. */
const PLACES = ["type", "stage", "step", "iteration", "rollout", "phase", "when", "part", "table", "name", "text"];

/** Names an event by where it stands. A run that goes on starts at another step, so a start has none. */
export function keyOf(event: unknown): string {
  const at = plain(event);
  if (!at) return JSON.stringify(event) ?? "";
  const own = PLACES.filter((name) => !(name === "step" && at.type === "start"))
    .map((name) => at[name])
    .map((value) => (typeof value === "object" || value === undefined ? "" : value));
  const inner = plain(at.event);
  return JSON.stringify(own) + (inner ? keyOf(inner) : "");
}

/**
 * What was told of a run. A run that goes on says once more what came after its last state: the n-th event of a name is the one
 * that was told as such before.
 */
export class Told {
  private readonly times = new Map<string, number>();
  private again = new Map<string, number>();
  private readonly key: (event: unknown) => string | null;

  constructor(key: Program["key"]) {
    this.key = key ?? keyOf;
  }

  /** The program is called anew. */
  restart(): void {
    this.again = new Map();
  }

  /** Takes an event; whether it is a new one. */
  isNew(event: unknown): boolean {
    const key = this.key(event);
    if (key === null) return true;
    const count = (this.again.get(key) ?? 0) + 1;
    this.again.set(key, count);
    if (count <= (this.times.get(key) ?? 0)) return false;
    this.times.set(key, count);
    return true;
  }
}
