/** RAFT's verb: the training verb, and the files that LMFlow leaves of a run besides the model. */
import { methods } from "../../open/index.ts";
import { logging } from "../../rlhf/settings.ts";
import { diskFiles } from "../../runtime/files.ts";
import { trainingVerb } from "../train.ts";
import type { Verb } from "../verb.ts";
import { keepRewards } from "./raft-rewards.ts";

/** The verb `raft`. */
export const raftVerb = (): Verb =>
  trainingVerb(methods.raft, {
    settings: {
      outputRewardPath: logging.path(
        null,
        "File of mean rewards, a line per round; default: rewards.txt in output_dir",
      ),
    },
    async *also(events, o) {
      yield* keepRewards(events, await diskFiles(), o.outputDir as string, o.outputRewardPath as string | null);
    },
  });
