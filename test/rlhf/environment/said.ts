/** What a policy says in a turn, for tests that play an environment without one. */
import type { Action } from "webrlhf/rlhf";

/** Its words, and nothing else. Default: in the first turn, which it ends by itself. */
export const said = (text: string, more: Partial<Action> = {}): Action => ({
  ...{ text, ids: new Uint32Array(), calls: [], broken: [], turn: 0, ended: true },
  signal: new AbortController().signal,
  ...more,
});
