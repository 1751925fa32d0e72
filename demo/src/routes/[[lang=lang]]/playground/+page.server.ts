import type { Recording } from "../../../lib/lesson/types.ts";
import recordings from "../../../playground/recordings.json" with { type: "json" };

/** The recorded runs go into the page itself: it reads without JavaScript and shows something at once. */
export const load = () => ({ recordings: recordings as unknown as Recording[] });
