/** The words of the labels of a class. */
import type { Language } from "../lib/language.ts";

const en = {
  title: "Labels of the class",
  lead: "In lesson 4 each student downloads labels.jsonl, or saves the run. Give all of these files here: they show where people agree, and where no judge can please everybody. A class that labels together in a room, on pairs of your own, gives one file: the votes_file of webrlhf label.",
  files: "Files of labels, or saved runs",
  drop: "…or drop them here. A file's name stands for its student, unless its lines say who labelled.",
  forget: "Forget these labels",
  taken: (students: number, labels: number, pairs: number) =>
    `${students} ${students === 1 ? "student" : "students"}, ${labels} labels on ${pairs} pairs.`,
  same: (n: number) => (n === 1 ? "1 file held labels already given." : `${n} files held labels already given.`),
  replaced: (who: string) => `A later file replaced an earlier one of: ${who}.`,
  class: (share: string, of: number) => `Two students decide alike in ${share} of ${of} comparisons`,
  beyond: (share: string) => `beyond chance ${share}`,
  steady: (share: string, of: number) => `One student decides as before in ${share} of ${of} pairs that came again`,
  classNote:
    "Beyond chance: 0 is as two coins, 1 is always alike. The standard error is over students, as another class of that size would differ.",
  few: "too few to tell",
  who: "Who labelled",
  student: "student",
  labels: "labels",
  again: "as before, of pairs that came again",
  others: "like the others",
  common: "comparisons",
  agreement: "Who decides like whom",
  agreementLead: (few: number) =>
    `Each cell: on what share of the pairs that both labelled two students decided alike, and on how many pairs. With fewer than ${few} pairs in common the share says nothing and is left out. The standard error of 0.7 on 20 pairs is 0.1.`,
  show: "Show",
  shares: "shares",
  chance: "beyond chance",
  none: "–",
  votes: "Who decided which pair how",
  votesLead: "A and B are the pair's stories in the list below; · is no label.",
  more: (shown: number, all: number) => `The ${shown} of ${all} pairs that most students decided.`,
  pair: "pair",
  pairs: "The pairs, the most disputed first",
  prompt: "wish",
  forA: "for A",
  forB: "for B",
  split: "split",
  judgeTitle: "A judge of the class",
  judgeLead: (parts: number) =>
    `The pairs are dealt into ${parts} parts. A judge as in lesson 4 learns from everybody's labels on all parts but one, and decides the pairs of that one, which it never saw; so with each part. A last one learns from all.`,
  judgeTrain: "Train a judge of the class",
  judgeStop: "Stop",
  judgePart: (part: number, parts: number) => `Training judge ${part} of ${parts}…`,
  judgeLast: "Training the judge of all labels…",
  judgeFew: (few: number) => `This needs at least two students and ${few} pairs that two of them decided.`,
  judgeUnknown: "Too few of these stories are known here to decide them without WebGPU.",
  judgeTable: (decisions: number, pairs: number) =>
    `How often each says what a student said, over ${decisions} decisions on ${pairs} pairs`,
  judgeOfClass: "the judge, on pairs that it never saw",
  classmate: "one classmate",
  majority: "the majority of the classmates",
  judgeBelow: (gap: string) =>
    `The judge stays below the class's own majority (${gap}): here more labels, or a better judge, could still help.`,
  judgeLevel: (gap: string) =>
    `The judge cannot be told from the class's own majority (${gap}): it is about as good as labels of this class can make one.`,
  judgeAbove: (gap: string) =>
    `The judge comes out above the class's own majority (${gap}). With few classmates the majority is noisy, and a judge that learned a rule from many pairs is less so.`,
  judgeRules: (friend: string, shorter: string, truth: string) =>
    `The judge of all labels decides 128 new pairs as “a friend is named” in ${friend}, as “the shorter one” in ${shorter}, as the truth in ${truth}: this is the class's taste.`,
  judgeNote:
    "Where people disagree nobody can be right by all of them. One classmate is right as often as two students agree; all classmates together more often, for their errors cancel. Of a large class no judge can be expected above that line: it would have to know why this one student differs. Standard errors are over pairs.",
  judgeHere:
    "Without WebGPU this judge is a linear head over recorded features of lesson 4's stories; other stories are left out.",
};

export type LabelWords = typeof en;

const zh: LabelWords = {
  title: "全班的标签",
  lead: "在第 4 课中,每个学生下载 labels.jsonl 或保存运行。把这些文件一起交到这里:可以看出人们在哪里一致,在哪里没有裁判能让所有人满意。全班也可以在一个房间里一起标注你自己的故事对,得到一个文件:webrlhf label 的 votes_file。",
  files: "标签文件,或保存的运行",
  drop: "……或拖放到这里。文件名代表学生,除非文件的各行写明是谁标注的。",
  forget: "清除这些标签",
  taken: (students, labels, pairs) => `${students} 个学生,${pairs} 个故事对上的 ${labels} 个标签。`,
  same: (n) => `${n} 个文件含有已给出的标签。`,
  replaced: (who) => `后来的文件替换了先前的:${who}。`,
  class: (share, of) => `两个学生选择相同的比例为 ${share}(${of} 次比较)`,
  beyond: (share) => `扣除偶然后 ${share}`,
  steady: (share, of) => `同一个学生再次遇到同一对时选择不变的比例为 ${share}(${of} 对)`,
  classNote: "扣除偶然:0 等同两枚硬币,1 为总是一致。标准误按学生计算:同样大小的另一个班可能相差多少。",
  few: "太少,无法判断",
  who: "谁标注了",
  student: "学生",
  labels: "标签数",
  again: "重复的对中与之前相同",
  others: "与其他人相同",
  common: "比较次数",
  agreement: "谁与谁选择相同",
  agreementLead: (few) =>
    `每格:两人都标注过的对中选择相同的比例,以及对数。共同的对少于 ${few} 时比例说明不了什么,不显示。20 对中 0.7 的标准误为 0.1。`,
  show: "显示",
  shares: "比例",
  chance: "扣除偶然",
  none: "–",
  votes: "谁对哪一对怎样选择",
  votesLead: "A 和 B 是下面列表中该对的两个故事;· 表示没有标签。",
  more: (shown, all) => `共 ${all} 对,显示标注人数最多的 ${shown} 对。`,
  pair: "对",
  pairs: "故事对,争议最大的在前",
  prompt: "愿望",
  forA: "选 A",
  forB: "选 B",
  split: "分歧",
  judgeTitle: "全班的裁判",
  judgeLead: (parts) =>
    `把故事对分成 ${parts} 份。与第 4 课相同的裁判从其余各份上所有人的标签学习,再判断它从未见过的那一份;每一份轮流如此。最后一个裁判从全部标签学习。`,
  judgeTrain: "训练全班的裁判",
  judgeStop: "停止",
  judgePart: (part, parts) => `正在训练第 ${part} 个裁判,共 ${parts} 个……`,
  judgeLast: "正在训练全部标签的裁判……",
  judgeFew: (few) => `至少需要两个学生,以及 ${few} 对有两人都标注过的故事。`,
  judgeUnknown: "这里认识的故事太少,没有 WebGPU 无法判断。",
  judgeTable: (decisions, pairs) => `各自与学生的选择相同的比例:${pairs} 对上的 ${decisions} 次选择`,
  judgeOfClass: "裁判,在它从未见过的对上",
  classmate: "一个同学",
  majority: "其余同学的多数",
  judgeBelow: (gap) => `裁判低于全班自己的多数(${gap}):更多的标签或更好的裁判还能有帮助。`,
  judgeLevel: (gap) => `裁判与全班自己的多数分不出高下(${gap}):这个班的标签大约只能造出这样好的裁判。`,
  judgeAbove: (gap) => `裁判高于全班自己的多数(${gap})。同学很少时多数本身有噪声,而从许多对中学到规律的裁判噪声较小。`,
  judgeRules: (friend, shorter, truth) =>
    `全部标签的裁判判断 128 个新的对:与“提到朋友”一致 ${friend},与“较短”一致 ${shorter},与真相一致 ${truth}:这就是全班的口味。`,
  judgeNote:
    "人们意见不一时,没有谁能让所有人都觉得对。一个同学说对的比例就是两个学生一致的比例;全体同学合起来更高,因为误差相互抵消。班级大时,不能指望裁判高于这条线:那需要知道这个学生为什么与众不同。标准误按故事对计算。",
  judgeHere: "没有 WebGPU 时,这个裁判是第 4 课故事的预存特征上的线性头;其他故事不计。",
};

export const labelWords: Record<Language, LabelWords> = { en, zh };
