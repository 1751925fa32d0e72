/** Eight questions for before and after: question, answers, which one is right, and why. Their one home. */
import type { Text } from "../lib/language.ts";

export interface Question {
  id: string;
  /** The lesson that answers it; none: all of them do. */
  lesson?: string;
  asks: Text;
  options: readonly { id: string; text: Text }[];
  right: string;
  why: Text;
}

export const questions: readonly Question[] = [
  {
    id: "model",
    lesson: "language-model",
    asks: {
      en: "What does a language model give out at each place of a text?",
      zh: "在文本的每个位置,语言模型给出什么?",
    },
    options: [
      {
        id: "word",
        text: { en: "The one right next word, by the rules of grammar", zh: "按语法规则唯一正确的下一个词" },
      },
      {
        id: "probabilities",
        text: { en: "A probability for each possible next token", zh: "每个可能的下一个词元的概率" },
      },
      { id: "sentence", text: { en: "A whole sentence that it has stored", zh: "它存储的一整句话" } },
      { id: "truth", text: { en: "How true the text is so far", zh: "到此为止文本有多真实" } },
    ],
    right: "probabilities",
    why: {
      en: "It is a distribution over tokens. A text is drawn from it, token by token, and could have come out otherwise.",
      zh: "它是词元上的一个分布。文本是逐个词元抽出来的,也可能是别的样子。",
    },
  },
  {
    id: "imitation",
    lesson: "sft",
    asks: {
      en: "A model is trained to imitate stories of mixed quality. How good do its own stories become, on average?",
      zh: "让模型模仿质量参差的故事。它自己写的故事平均会有多好?",
    },
    options: [
      {
        id: "best",
        text: { en: "As good as the best stories that it was shown", zh: "和看到的那些故事中最好的一样好" },
      },
      { id: "better", text: { en: "Better than all that it was shown", zh: "比看到的都好" } },
      {
        id: "average",
        text: { en: "About as good as the average of them", zh: "大约和看到的平均一样好" },
      },
      { id: "worst", text: { en: "As bad as the worst", zh: "和最差的一样差" } },
    ],
    right: "average",
    why: {
      en: "Imitation copies the whole mix. To get better, somebody has to choose what is shown, or to judge what is written.",
      zh: "模仿复制的是整个混合。要变得更好,就得有人挑选给它看什么,或评判它写了什么。",
    },
  },
  {
    id: "taste",
    lesson: "labeller",
    asks: {
      en: "Somebody labels pairs of stories and always takes the shorter one. What does a reward model learn from the labels?",
      zh: "有人给故事对做标注,总是选较短的。奖励模型从这些标签学到什么?",
    },
    options: [
      { id: "quality", text: { en: "What a good story is", zh: "什么是好故事" } },
      { id: "nothing", text: { en: "Nothing: labels need reasons", zh: "什么也学不到:标签需要理由" } },
      { id: "rule", text: { en: "To prefer shorter stories", zh: "偏好较短的故事" } },
      { id: "person", text: { en: "What all people prefer", zh: "所有人的偏好" } },
    ],
    right: "rule",
    why: {
      en: "It learns what the clicks have in common. Nothing in them says whether that was meant.",
      zh: "它学到的是这些点击的共同之处。点击本身并不说明那是否是本意。",
    },
  },
  {
    id: "ceiling",
    lesson: "reward-model",
    asks: {
      en: "Two careful labellers agree on 80 of 100 pairs. A judge is tested on one labeller's labels. What follows?",
      zh: "两位认真的标注者在 100 对中有 80 对一致。用其中一位的标签检验一个裁判。由此可知什么?",
    },
    options: [
      { id: "hundred", text: { en: "With enough labels it will reach 100 %", zh: "只要标签足够多,它就会达到 100 %" } },
      {
        id: "bounded",
        text: {
          en: "It cannot be right by everybody",
          zh: "它不可能让每个人都觉得对",
        },
      },
      { id: "eighty", text: { en: "It is right in exactly 80 %", zh: "它恰好对 80 %" } },
      { id: "useless", text: { en: "The labels are useless", zh: "这些标签没有用" } },
    ],
    right: "bounded",
    why: {
      en: "Disagreement is a ceiling that more data does not lift. A judge can learn what is common to the labels, not their noise.",
      zh: "分歧是更多数据也抬不高的上限。裁判能学到标签的共同之处,学不到其中的噪声。",
    },
  },
  {
    id: "credit",
    lesson: "ppo",
    asks: {
      en: "The judge scores a whole answer once, at its end. How do the tokens in the middle learn from it in PPO?",
      zh: "裁判只在结尾给整个回答打一次分。在 PPO 中,中间的词元怎样从中学习?",
    },
    options: [
      {
        id: "not",
        text: {
          en: "They do not: only the last token learns from the score",
          zh: "不学习:只有最后一个词元从打分中学习",
        },
      },
      {
        id: "each",
        text: { en: "The judge scores each of them as it is written", zh: "每写出一个词元,裁判都给它打一次分" },
      },
      {
        id: "critic",
        text: {
          en: "Through a critic that guesses how it will end",
          zh: "通过一个猜测结局的评论家",
        },
      },
      { id: "lot", text: { en: "The score is dealt out by lot", zh: "分数随机分配" } },
    ],
    right: "critic",
    why: {
      en: "The advantages spread the one score over the tokens, by how the critic's expectation changed at each of them.",
      zh: "优势把这一个分数分摊到各词元上,依据是评论家的预期在每个词元处怎样变化。",
    },
  },
  {
    id: "chosen",
    lesson: "dpo",
    asks: {
      en: "DPO trains on pairs of a chosen and a rejected answer. Its loss falls. What can be said of the chosen answers?",
      zh: "DPO 用被选中与被拒绝的答案对训练,损失下降。关于被选中的答案可以说什么?",
    },
    options: [
      {
        id: "up",
        text: { en: "The model now writes them more often, for sure", zh: "模型现在一定比以前更常写出它们" },
      },
      {
        id: "gap",
        text: {
          en: "They gained on the rejected ones, no more",
          zh: "它们相对被拒绝的占了优势",
        },
      },
      { id: "same", text: { en: "Their probability cannot change", zh: "它们的概率不会变" } },
      { id: "one", text: { en: "Their probability is now 1", zh: "它们的概率现在是 1" } },
    ],
    right: "gap",
    why: {
      en: "The loss sees the difference alone. Both can fall, if the rejected one falls further: the rest goes to other answers.",
      zh: "损失只看差值。两者可以都下降,只要被拒绝的下降更多:其余的概率流向别的答案。",
    },
  },
  {
    id: "goodhart",
    lesson: "over-optimisation",
    asks: {
      en: "While a policy is trained, the judge's score has been rising for an hour. What do you know about the quality of its answers?",
      zh: "训练策略时,裁判的打分已经上升了一个小时。关于回答的质量你知道什么?",
    },
    options: [
      { id: "better", text: { en: "It has been rising for an hour, too", zh: "同样也已经上升了一个小时" } },
      {
        id: "unknown",
        text: {
          en: "Little: it may even have fallen",
          zh: "很少:它甚至可能下降了",
        },
      },
      { id: "worse", text: { en: "It must have fallen", zh: "一定下降了" } },
      { id: "limit", text: { en: "It is at its limit", zh: "已到极限" } },
    ],
    right: "unknown",
    why: {
      en: "Far from where the judge learned, its score says little. One has to look at the truth, or stay near: a penalty, an early stop, a better judge.",
      zh: "离裁判学习过的地方远了,它的打分说明不了什么。要么去看真相,要么不要走远:惩罚、提早停止、更好的裁判。",
    },
  },
  {
    id: "noise",
    asks: {
      en: "One run moved the truth by 0.3, with a standard error of 0.2. What does it show?",
      zh: "一次运行使真实得分变化 0.3,标准误为 0.2。这说明什么?",
    },
    options: [
      { id: "works", text: { en: "The method works, if only by a little", zh: "方法有效,只是效果不大" } },
      { id: "fails", text: { en: "The method does not work", zh: "方法无效" } },
      {
        id: "cannot",
        text: { en: "It cannot be told yet", zh: "还不能判断" },
      },
      { id: "exact", text: { en: "The gain is 0.3 in every run", zh: "每次运行都提高 0.3" } },
    ],
    right: "cannot",
    why: {
      en: "Less than two standard errors are no verdict. More prompts, or more runs, make the error smaller.",
      zh: "不到两个标准误不足以下结论。更多提示或更多运行会使误差变小。",
    },
  },
];
