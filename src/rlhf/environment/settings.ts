/** How episodes are played, as settings. */
import { needs, type ResolvedSettings, settings } from "../../settings/index.ts";
import { positive, rollout } from "../settings.ts";

/** How episodes are played; names are TRL's where it has them. */
export const environmentSettings = {
  maxTurns: rollout.int(8, "Turns of an episode, at most; one that is not over by then is cut off", {
    min: 1,
    effect: needs("environment"),
  }),
  environmentTimeout: rollout.float(60, "Seconds that an environment may take for one answer", {
    ...positive,
    effect: needs("environment"),
  }),
  environmentFailure: rollout.choice(
    ["stop", "drop"],
    "stop",
    "When an environment fails or takes too long: stop the run, or leave all responses to that prompt out of the step",
    { effect: needs("environment") },
  ),
};

/** A record of them alone, for what is no run of a trainer. */
export const episodes = settings("episodes", environmentSettings);

/** The settings of episodes, resolved. */
export type EnvironmentSettings = ResolvedSettings<typeof environmentSettings>;
