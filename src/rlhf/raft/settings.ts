/** RAFT's settings. */
import { all, byDialect, derived, group, needs, settings, where, without } from "../../settings/index.ts";
import { aheadSettings, checkAhead } from "../ahead.ts";
import { checkOrder, orderSettings } from "../any-order.ts";
import { environmentSettings } from "../environment/settings.ts";
import { rewardFailureSettings } from "../reward-failures.ts";
import * as shared from "../settings.ts";

const own = group("RAFT");
const hacking = group("Reward hacking");
const { data, optim, positive, rollout } = shared;

/** What would rewrite or cut what was drawn, or learn of it what the policy did not write: in an environment nothing does. */
const outside = { effect: without("environment") };

/** RAFT's settings, by LMFlow's names where it has them. */
export const raft = settings(
  "raft",
  {
    dialect: own.choice(
      ["lmflow", "corrected"],
      "lmflow",
      "What settings that are not set mean: what LMFlow does, or its traps corrected",
    ),
    maxPromptLength: data.int(256, "Leave out prompts of more tokens", { min: 1 }),
    reusePrompts: data.bool(true, "Begin again when the prompts are used up; LMFlow's run ends there"),
    maxSteps: own.int(20, "Rounds of sampling, ranking and fine-tuning; each is one step", {
      min: 1,
      aka: ["num_raft_iteration"],
    }),
    raftBatchSize: own.int(1024, "Responses kept in one round", { min: 1 }),
    topRewardPercentage: own.float(0.2, "Part of the responses that is kept; 1 of K is 1 / K", shared.share),
    collectionStrategy: own.choice(["local", "top"], "local", "Keep the best of each prompt's K, or the best of all"),
    klBeta: own.float(0, "Rank by the reward less this times the log-ratio to the start", { min: 0, live: true }),
    ...shared.rewardMixture,
    ...rewardFailureSettings,
    cleanText: own.choice(
      ["auto", "none", "lmflow"],
      "auto",
      "Rule for texts: lmflow keeps what stands before the next ###Human turn, without '#' at its ends; auto does so in local lmflow",
      outside,
    ),
    discardSample: own.choice(
      ["auto", "none", "lmflow"],
      "auto",
      "Rule for responses: lmflow keeps those with a '#' or fewer than 2 characters from being learned; auto does so in local lmflow, outside of environments",
    ),
    discardContaining: own.list(null, "Keep responses with any of these texts from being learned, too"),
    numTrainEpochs: own.int(4, "Passes over the kept responses in one round", { min: 1 }),
    maskPrompt: own.bool(byDialect({ lmflow: false, corrected: true }), "Learn responses only", outside),
    appendEos: own.bool(byDialect({ lmflow: false, corrected: true }), "Learn where responses end", outside),
    blockSize: own.int(
      null,
      "Cut longer texts to blocks of this many tokens; default: the context, or 512 above 1024",
      { min: 2 },
    ),
    disableGroupTexts: own.bool(true, "Learn each text by itself instead of all in a row, cut into blocks"),
    responseLength: rollout.int(128, "Longest response in tokens", {
      min: 1,
      aka: ["output_max_length", "max_new_tokens"],
    }),
    outputMinLength: rollout.int(
      derived(
        ({ responseLength }: { responseLength: number }, dialect): number | null =>
          dialect === "lmflow" && responseLength > 64 ? 64 : null,
        "64 where that is less; corrected: never",
        true,
      ),
      "Draw each response's limit from here to output_max_length",
      { min: 1, ...outside },
    ),
    inferenceBatchSizePerDevice: rollout.int(1, "Prompts that share a drawn limit in top; local has one for each", {
      min: 1,
      effect: all(where("collectionStrategy", "top"), needs("outputMinLength")),
    }),
    ...environmentSettings,
    minNewTokens: rollout.int(0, "Tokens before a response may end", { min: 0 }),
    ...shared.sampling,
    ...shared.determinism,
    ...shared.caching,
    ...aheadSettings,
    ...orderSettings,
    temperature: rollout.float(0.85, "Sampling temperature", positive),
    ...shared.optimiser(2e-5, "constant", 8),
    ...shared.half,
    lrSchedulerType: optim.choice(
      ["constant", "linear", "cosine", "linear-per-iteration"],
      "constant",
      "Learning rate after the warm-up, over the whole run or (the paper's) in every round anew",
    ),
    monitor: hacking.bool(true, "Watch for tokens that rise together with the reward: warnings, and monitor.jsonl"),
    monitorThreshold: hacking.float(4, "Warn when the z of both the frequency and the reward exceed this", {
      ...positive,
      effect: needs("monitor"),
    }),
    plantedText: hacking.text(null, "Plant a flaw to study: responses with this text get planted_bonus more reward"),
    plantedBonus: hacking.float(1, "Reward that the planted text earns", { effect: needs("plantedText") }),
    ...shared.shown,
    showCandidates: shared.logging.bool(false, "Keep every response with its reward and rank in candidates.jsonl"),
    ...shared.rolloutEvaluation,
    ...shared.common,
  },
  (o, name) => {
    checkAhead(o, name);
    checkOrder(o, name);
    shared.checkResponseLength(o, name, "outputMinLength");
    shared.checkResponseLength(o, name, "minNewTokens");
  },
);

/** RAFT's settings, resolved. */
export type RaftSettings = ReturnType<typeof raft>;
