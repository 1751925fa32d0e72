/** Clients' sessions: what a client has here lives as long as it gives a sign of life. */
import { ApiError } from "../errors.ts";

/** One client's session. */
export interface Session {
  readonly id: string;
  /** When it last gave a sign of life, by `performance.now()`. */
  seenAt: number;
  readonly displayName: string | null;
  readonly userMetadata: Record<string, string> | null;
}

/** More than this many at once are not taken in. */
const MOST_SESSIONS = 1024;
/** Clients give a sign of life every ten seconds: one that gave none for so long has most likely ended. */
const LAPSED_MS = 60_000;

export class Sessions {
  private readonly all = new Map<string, Session>();
  private readonly ended: (id: string) => void;
  private readonly timer: ReturnType<typeof setInterval>;

  /** @param ended hears of every session that ends */
  constructor(sessionMs: number, ended: (id: string) => void) {
    this.ended = ended;
    this.timer = setInterval(
      () => {
        for (const { id, seenAt } of this.all.values()) if (performance.now() - seenAt > sessionMs) this.end(id);
      },
      Math.max(10, Math.min(10_000, sessionMs / 4)),
    );
    this.timer.unref();
  }

  begin(displayName: string | null, userMetadata: Record<string, string> | null): Session {
    if (this.all.size >= MOST_SESSIONS) {
      const oldest = [...this.all.values()].sort((a, b) => a.seenAt - b.seenAt)[0];
      if (!this.isLapsed(oldest.id))
        throw new ApiError(503, "The server has as many sessions as it can.", { retrySeconds: 10 });
      this.end(oldest.id);
    }
    const session = { id: crypto.randomUUID(), seenAt: performance.now(), displayName, userMetadata };
    this.all.set(session.id, session);
    return session;
  }

  /** A session, which has now given a sign of life. Throws for one that has ended. */
  seen(id: string): Session {
    const session = this.all.get(id);
    if (!session) {
      throw new ApiError(
        410,
        `There is no session ${id.slice(0, 100)} any more: it has ended, or the server is another one. Make a new client.`,
      );
    }
    session.seenAt = performance.now();
    return session;
  }

  /** Whether a session has ended, or gave no sign of life for a minute. */
  isLapsed(id: string): boolean {
    const session = this.all.get(id);
    return !session || performance.now() - session.seenAt > LAPSED_MS;
  }

  end(id: string): void {
    if (this.all.delete(id)) this.ended(id);
  }

  close(): void {
    clearInterval(this.timer);
    for (const id of [...this.all.keys()]) this.end(id);
  }
}
