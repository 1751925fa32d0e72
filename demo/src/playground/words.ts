/** The playground's words. */
import type { Language } from "../lib/language.ts";
import type { Reward, Scale, Verdict } from "./curves.ts";
import type { Choice, NumberKnob } from "./knobs.ts";

export interface Words {
  try: string;
  lesson: (title: string) => string;
  ownValues: string;
  knobs: string;
  method: string;
  methods: Record<Choice, string>;
  /** Label, name where names are short, help. */
  knob: Record<NumberKnob, readonly [label: string, short: string, help: string]>;
  seed: string;
  /** The knobs are not those of the run shown. */
  stale: (over: boolean) => string;
  judgeLearns: string;
  judgeStep: string;
  loss: string;
  accuracy: (share: string) => string;
  curve: string;
  sd: string;
  judge: string;
  truth: string;
  recorded: string;
  kl: string;
  nats: string;
  length: string;
  tokens: string;
  scale: string;
  scales: Record<Scale, string>;
  /** The x axis of best-of-n. */
  n: string;
  bars: string;
  verdict: (numbers: { prompts: number; at: number; judge: string; truth: string; kl: string }, n: boolean) => string;
  verdicts: Record<Verdict, string>;
  pins: {
    title: string;
    pin: string;
    hint: (most: number) => string;
    full: (most: number) => string;
    pinned: string;
    shown: string;
    name: string;
    rename: (name: string) => string;
    remove: string;
    removes: (name: string) => string;
    judge: string;
    truth: string;
  };
  race: {
    title: Record<Reward | "both", string>;
    shows: string;
    both: string;
    distance: string;
    ends: string;
    spent: string;
    pairs: string;
    two: string;
    less: string;
    says: string;
    unknown: string;
    better: (method: string) => string;
    fair: string;
  };
  background: string;
  terms: readonly (readonly [term: string, text: string])[];
}

const en: Words = {
  try: "Try",
  lesson: (title) => `Lesson: ${title}`,
  ownValues: "With values of your own",
  knobs: "Knobs",
  method: "Method",
  methods: {
    ppo: "PPO",
    grpo: "GRPO",
    raft: "RAFT",
    dpo: "DPO",
    "best-of-n": "Best of n",
    race: "Race of all five",
  },
  knob: {
    klCoef: ["KL penalty", "KL", "How much it costs to leave the start. 0 lets the policy run free."],
    beta: ["DPO's beta", "beta", "How closely DPO is held to the start."],
    learningRate: ["Learning rate", "rate", "The size of each step of the policy."],
    temperature: ["Temperature", "temperature", "Of sampling in training; held-out prompts are always answered at 1."],
    group: ["Group size", "group", "Answers to one prompt that compete with each other."],
    prompts: ["Prompts", "prompts", "Different prompts that training draws from."],
    responses: ["Responses per step", "responses", "Answers that are learned from in one step."],
    steps: ["Steps", "steps", "How long the policy learns."],
    pairs: ["Judge's pairs", "pairs", "That the judge learns from. Fewer make a worse judge."],
    budget: ["Budget", "budget", "Generated tokens that each method may spend."],
  },
  seed: "seed",
  stale: (over) =>
    over ? "The next run will have these values." : "The run goes on with its old values. Drop it to use these.",
  judgeLearns: "The judge learns from pairs",
  judgeStep: "step of the judge",
  loss: "loss of the judge",
  accuracy: (share) => `The judge calls ${share} of 128 new pairs right.`,
  curve: "What the judge says, and what is true",
  sd: "sd above the start",
  judge: "judge",
  truth: "truth",
  recorded: "recorded",
  kl: "The distance from the start",
  nats: "KL, nats per answer",
  length: "The length of answers",
  tokens: "tokens per answer",
  scale: "Compare at equal",
  scales: { step: "steps", tokens: "generated tokens", distance: "distance, √KL" },
  n: "n",
  bars: "Bars and ± are standard errors over 128 held-out prompts, the same before and after; a bar is two of them to either side.",
  verdict: ({ prompts, at, judge, truth, kl }, n) =>
    `By the judge ${judge} sd, in truth ${truth} sd, KL ${kl}, on ${prompts} held-out prompts ${n ? `with n = ${at}` : `after step ${at}`}: `,
  verdicts: {
    up: "the stories got truly better.",
    down: "the stories got truly worse.",
    unknown: "it cannot be told whether the stories got truly better or worse.",
  },
  pins: {
    title: "Compare runs",
    pin: "Pin this run",
    hint: (most) => `A finished run that is pinned stays beside the next ones, up to ${most} of them.`,
    full: (most) => `${most} runs are pinned: remove one to pin another.`,
    pinned: "Pinned runs",
    shown: "shown",
    name: "name",
    rename: (name) => `Name of ${name}`,
    remove: "Remove",
    removes: (name) => `Remove ${name}`,
    judge: "By the judge",
    truth: "In truth",
  },
  race: {
    title: {
      truth: "The race: what is truly gained, and how far from the start",
      judge: "The race: what the judge gives, and how far from the start",
      both: "The race: judge and truth, and how far from the start",
    },
    shows: "The plane shows",
    both: "both",
    distance: "√KL from the start",
    ends: "Where each method ended",
    spent: "generated tokens",
    pairs: "Their last looks, two by two, on the same prompts",
    two: "methods",
    less: "truth, sd",
    says: "what can be told",
    unknown: "cannot be told",
    better: (method) => `${method} is truly better`,
    fair: "Every method starts from the same model, has the same judge, and stops when its budget of generated tokens is spent. PPO, GRPO and RAFT spend it as they learn, each with its own learning rate; DPO on pairs that it draws from the start before it learns; best of n on the answers to the held-out prompts themselves, and it would spend it again on the next prompts. One seed is one race: another seed may end otherwise.",
  },
  background: "What happens here, and what the words mean",
  terms: [
    [
      "Judge",
      "a reward model: a copy of the language model that gives a story one number. It learns from pairs which of two stories was liked better, and is only a stand-in for the truth.",
    ],
    [
      "Truth",
      "the rules of the made-up world: name the hero, get the wished thing, use it sensibly, be kind, end well, do not repeat. Never shown to the training, only plotted.",
    ],
    [
      "PPO",
      "samples stories, scores them with the judge, and makes the better ones more likely, in small clipped steps, with a penalty for leaving the start.",
    ],
    ["GRPO", "the same without a critic: an answer is held against the others of its group."],
    ["RAFT", "keeps the best of each group by the judge, and learns to write like them."],
    [
      "DPO",
      "draws groups of answers from the start once, lets the judge pick the best and the worst of each, and learns from these pairs alone.",
    ],
    ["Best of n", "trains nothing: draws n answers to a prompt and takes the one that the judge likes best."],
    [
      "KL",
      "how far the policy has moved from the model it started as, in nats per answer. Far away the judge has never seen such stories.",
    ],
    [
      "sd",
      "standard deviation of the stories before training. +1 sd: the average story is now as good as a clearly good one was before.",
    ],
    [
      "±",
      "the standard error: how far off the number may well be. Better or worse is said only of a difference of more than two of them.",
    ],
  ],
};

const zh: Words = {
  try: "试一试",
  lesson: (title) => `课程:${title}`,
  ownValues: "用你自己的设置",
  knobs: "旋钮",
  method: "方法",
  methods: { ppo: "PPO", grpo: "GRPO", raft: "RAFT", dpo: "DPO", "best-of-n": "n 选一", race: "五种方法竞赛" },
  knob: {
    klCoef: ["KL 惩罚", "KL", "离开起点的代价。0 表示不加约束。"],
    beta: ["DPO 的 beta", "beta", "DPO 被拉住在起点附近的程度。"],
    learningRate: ["学习率", "学习率", "策略每一步的大小。"],
    temperature: ["温度", "温度", "训练时采样的温度;未见提示总是在温度 1 下作答。"],
    group: ["组的大小", "组", "同一提示下互相竞争的答案个数。"],
    prompts: ["提示数", "提示", "训练所用的不同提示。"],
    responses: ["每步的答案数", "答案", "一步之中学习的答案。"],
    steps: ["步数", "步", "策略学习多久。"],
    pairs: ["评判的偏好对", "对", "评判由这些对学成。越少,评判越差。"],
    budget: ["预算", "预算", "每种方法可以花费的生成词元。"],
  },
  seed: "种子",
  stale: (over) => (over ? "下一次运行将使用这些设置。" : "当前运行仍用原来的设置。放弃它才会使用这些。"),
  judgeLearns: "评判从偏好对中学习",
  judgeStep: "评判的步数",
  loss: "评判的损失",
  accuracy: (share) => `评判在 128 个新的偏好对中判对了 ${share}。`,
  curve: "评判怎么说,真相又如何",
  sd: "高出起点多少个标准差",
  judge: "评判",
  truth: "真实",
  recorded: "录制",
  kl: "与起点的距离",
  nats: "KL,每个答案的奈特数",
  length: "答案的长度",
  tokens: "每个答案的词元数",
  scale: "在相同的什么之下比较",
  scales: { step: "步数", tokens: "生成的词元", distance: "距离 √KL" },
  n: "n",
  bars: "竖线和 ± 是 128 个未见提示上的标准误,前后是同样的提示;竖线向两边各画两个标准误。",
  verdict: ({ prompts, at, judge, truth, kl }, n) =>
    `按评判 ${judge} 个标准差,真实 ${truth} 个标准差,KL ${kl},在 ${prompts} 个未见提示上,${n ? `n = ${at}` : `第 ${at} 步之后`}:`,
  verdicts: { up: "故事确实变好了。", down: "故事确实变差了。", unknown: "看不出故事是真的变好还是变差。" },
  pins: {
    title: "比较几次运行",
    pin: "固定这次运行",
    hint: (most) => `已结束的运行固定之后,会留在以后的运行旁边,最多 ${most} 次。`,
    full: (most) => `已固定 ${most} 次运行:先移除一次。`,
    pinned: "固定的运行",
    shown: "当前",
    name: "名称",
    rename: (name) => `${name} 的名称`,
    remove: "移除",
    removes: (name) => `移除 ${name}`,
    judge: "按评判",
    truth: "按真实得分",
  },
  race: {
    title: {
      truth: "竞赛:真实得分的提高,与离起点的距离",
      judge: "竞赛:评判给的分,与离起点的距离",
      both: "竞赛:评判与真实,与离起点的距离",
    },
    shows: "图中显示",
    both: "两者",
    distance: "与起点的 √KL",
    ends: "每种方法的终点",
    spent: "生成的词元",
    pairs: "最后一次测量,两两比较,提示相同",
    two: "方法",
    less: "真实得分,标准差",
    says: "能看出什么",
    unknown: "看不出差别",
    better: (method) => `${method} 确实更好`,
    fair: "每种方法都从同一个模型出发,用同一个评判,生成词元的预算花完就停。PPO、GRPO、RAFT 边学边花,学习率各用各的;DPO 在学习之前从起点采样成对答案来花;n 选一花在回答未见提示本身上,换一批提示还得再花一次。一个种子只是一次竞赛:换一个种子,结局可能不同。",
  },
  background: "这里发生了什么,这些词是什么意思",
  terms: [
    [
      "评判",
      "奖励模型:语言模型的一份副本,给每个故事一个分数。它从偏好对中学习两个故事里哪个更受喜欢,只是真实质量的替身。",
    ],
    [
      "真实",
      "这个虚构世界自己的规则:说出主角、得到想要的东西、合理地使用、善良、结局美好、不重复。训练从不使用,只用来画图。",
    ],
    ["PPO", "采样故事,由评判打分,以小而受裁剪的步子使较好的更可能出现,离开起点要付代价。"],
    ["GRPO", "同样的做法,但没有价值模型:一个答案与同组的其他答案相比。"],
    ["RAFT", "保留每组里评判认为最好的,并学着那样写。"],
    ["DPO", "从起点模型一次性采样几组答案,由评判选出每组最好和最差的,只从这些对中学习。"],
    ["n 选一", "什么都不训练:对一个提示采样 n 个答案,取评判最喜欢的那个。"],
    ["KL", "策略离开起点模型多远,以每个答案的奈特计。走得太远,那样的故事评判从未见过。"],
    ["标准差", "训练前故事得分的标准差。+1 表示:现在的普通故事和以前明显好的故事一样好。"],
    ["±", "标准误:这个数字可能偏差多少。只有差别超过两个标准误,才说变好或变差。"],
  ],
};

export const words: Record<Language, Words> = { en, zh };
