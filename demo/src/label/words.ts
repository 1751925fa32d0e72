/** The words of the page on which people label for somebody's cluster. */
import type { Absence } from "webrlhf/cluster";
import type { Language } from "../lib/language.ts";

const en = {
  title: "Which answer is better?",
  lead: "Somebody collects labels: you see a question with two answers, and say which answer is the better one.",
  what: "Your answers and the name that you choose go to whoever has invited you, and to nobody else. Nothing is computed here: any browser will do, without a GPU.",
  code: "The room's code, or the link of your invitation",
  take: "Go in",
  noInvitation:
    "This is neither a room's code nor an invitation. A code has six letters and digits; a link is copied whole.",
  noRoom: (code: string) => `There is no room ${code} here. It may be over, or the code is another one.`,
  looking: "Looking for the room…",
  invited: (member: string) => `You are in the room ${member}.`,
  until: (when: string) => `It is open until ${when}.`,
  name: "What do you want to be called? Others will see it.",
  start: "Start",
  leave: "Leave the room",
  pause: "Pause",
  goOn: "Go on",
  someoneElse: "Somebody else labels here",
  as: (name: string) => `You label as ${name}.`,
  phases: {
    ready: "",
    joining: "Connecting…",
    labelling: "",
    leaving: "Giving the pair back…",
    paused: "Paused. Your pair went to the others.",
    idle: "Nobody was here for ten minutes, so your pair went to somebody else.",
    over: "Stopped.",
  },
  at: {
    away: "The server does not answer; waiting for it. What you have said is kept here until it does.",
    waiting: "No pair waits just now. More may come: leave this page open.",
    deciding: "",
    sending: "Sending…",
  },
  forOthers: "You have labelled all pairs that are for you. What is left waits for other people.",
  counts: (done: number, waiting: number) => `${done} labelled, ${waiting} waiting.`,
  panel: "A question with two answers",
  hint: "Keys: 1 or ← for the first answer, 2 or → for the second, 0 or the space bar where you cannot say.",
  prompt: "Question",
  roles: { user: "Person", assistant: "Assistant", system: "Instruction" } as Record<string, string>,
  first: "First answer",
  second: "Second answer",
  better: { first: "The first is better", second: "The second is better", none: "I cannot say" },
  failures: {
    unreachable: (server: string, origin: string) =>
      `${server} does not answer this page. A browser does not say which it is: the server is off or a firewall is between; its certificate is not one that this browser knows; or it does not take pages of ${origin} (webrlhf cluster init --browsers --page).`,
    expired: () => "The room is closed: the time of its invitation is over.",
    refused: () =>
      "The server does not take this invitation: it was revoked, is another cluster's, or is not for labels.",
    version: () => "The server's webrlhf is another version than this page:",
    gpu: () => "",
  } satisfies Record<Absence, (server: string, origin: string) => string>,
};

export type LabelPageWords = typeof en;

const zh: LabelPageWords = {
  title: "哪个回答更好?",
  lead: "有人在收集标签:你会看到一个问题和两个回答,请说出哪个回答更好。",
  what: "你的选择和你取的名字只发送给邀请你的人。这里不做任何计算:任何浏览器都可以,不需要 GPU。",
  code: "房间代码,或你的邀请链接",
  take: "进入",
  noInvitation: "这既不是房间代码,也不是邀请。代码由六个字母和数字组成;链接请完整复制。",
  noRoom: (code) => `这里没有房间 ${code}。它可能已关闭,或代码有误。`,
  looking: "正在寻找房间……",
  invited: (member) => `你在房间 ${member} 里。`,
  until: (when) => `房间开放至 ${when}。`,
  name: "你想叫什么名字?其他人会看到它。",
  start: "开始",
  leave: "离开房间",
  pause: "暂停",
  goOn: "继续",
  someoneElse: "换一个人在这里标注",
  as: (name) => `你以 ${name} 的名字标注。`,
  phases: {
    ready: "",
    joining: "正在连接……",
    labelling: "",
    leaving: "正在交还这一对……",
    paused: "已暂停。你的这一对交给了其他人。",
    idle: "十分钟没有人操作,所以你的这一对交给了别人。",
    over: "已停止。",
  },
  at: {
    away: "服务器没有应答,正在等待。你已作出的选择会保留在这里。",
    waiting: "现在没有等待标注的对。可能还会有:请保持此页打开。",
    deciding: "",
    sending: "正在发送……",
  },
  forOthers: "给你的对都已标注完。剩下的在等其他人。",
  counts: (done, waiting) => `已标注 ${done} 对,还有 ${waiting} 对在等待。`,
  panel: "一个问题和两个回答",
  hint: "按键:1 或 ← 选第一个回答,2 或 → 选第二个,0 或空格表示说不清。",
  prompt: "问题",
  roles: { user: "人", assistant: "助手", system: "说明" },
  first: "第一个回答",
  second: "第二个回答",
  better: { first: "第一个更好", second: "第二个更好", none: "说不清" },
  failures: {
    unreachable: (server, origin) =>
      `${server} 没有应答这个页面。浏览器不说明原因:服务器没有运行,或被防火墙挡住;浏览器不认识它的证书;或者它不接受来自 ${origin} 的页面(webrlhf cluster init --browsers --page)。`,
    expired: () => "房间已关闭:邀请的时间已过。",
    refused: () => "服务器不接受这个邀请:它已被撤销,属于另一个集群,或不是用于标注的。",
    version: () => "服务器的 webrlhf 版本与这个页面不同:",
    gpu: () => "",
  },
};

export const labelPageWords: Record<Language, LabelPageWords> = { en, zh };
