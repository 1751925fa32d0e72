/** The words of the page that works in a cluster. */
import type { Absence } from "webrlhf/cluster";
import type { Language } from "../lib/language.ts";

const en = {
  title: "Lend this tab",
  lead: "Somebody trains a language model on several machines. This tab can draw responses for them, on your GPU, for as long as you like.",
  what: "It gets the model and prompts from their server and sends back what the model says. It reads nothing of yours, and closing the tab ends it.",
  insecure:
    "This page came over plain http://, where browsers hide WebGPU. Open it by https://, or on the machine itself by http://localhost.",
  noGpu: "This browser has no WebGPU, so it cannot draw. A current Chrome, Edge, Firefox or Safari has it.",
  looking: "Looking for a GPU…",
  onCpu: (name: string) => `No GPU: a software adapter (${name}) computes on the CPU, slowly.`,
  onGpu: (name: string) => `GPU: ${name}.`,
  paste: "The link of your invitation",
  take: "Take it",
  noInvitation: "This is no invitation: copy the whole link, from https:// to its last letter.",
  invited: (member: string, server: string) => `You are invited as ${member} to ${server}.`,
  until: (when: string) => `The invitation holds until ${when}.`,
  secret: "Whoever has the link works under this name: it has left the address bar, and is kept in this tab alone.",
  forget: "Forget the invitation",
  start: "Start working",
  pause: "Pause",
  goOn: "Go on",
  again: "Try again",
  goesOn: "Go on while this tab is hidden",
  why: "A hidden tab is slowed down and may be stopped without a word; its job would keep the others waiting for half a minute. So it gives the job back and pauses until you return, unless you say otherwise here.",
  phases: {
    ready: "Not working.",
    working: "Working.",
    leaving: "Giving the job back…",
    paused: "Paused. The job went back to the others.",
    hidden: "Paused because the tab was hidden.",
    over: "Stopped.",
  },
  connecting: "Connecting to the server…",
  at: {
    away: "The server does not answer; waiting for it.",
    waiting: "Waiting for a job: no trainer asks for one just now.",
    fetching: "Downloading weights…",
    drawing: "Drawing responses.",
    "standing by": "Standing by: faster tabs and machines are enough.",
  },
  enough: (others: number) => `${others} of them are; asks again in a few seconds.`,
  file: (name: string, done: string, total: string) => `${name}: ${done} of ${total}`,
  doing: "Now",
  jobs: "Jobs done",
  tokens: "Tokens drawn",
  pace: "Tokens per second",
  tab: "Others see this tab as",
  failures: {
    unreachable: (server: string, origin: string) =>
      `${server} does not answer this page. A browser does not say which it is: the server is off or a firewall is between; its certificate is not one that this browser knows; or it does not take pages of ${origin} (webrlhf cluster init --browsers --page).`,
    expired: () => "The invitation has expired. Ask for a new one.",
    refused: () => "The server refuses the invitation: it was revoked, or is another cluster's. Ask for a new one.",
    version: () => "The trainer is another version of webrlhf than this page:",
    gpu: () => "The GPU gave up:",
  } satisfies Record<Absence, (server: string, origin: string) => string>,
};

type Words = typeof en;

const zh: Words = {
  title: "出借这个标签页",
  lead: "有人正在用多台机器训练一个语言模型。这个标签页可以用你的 GPU 为他们生成回答,想多久就多久。",
  what: "它从对方的服务器得到模型和提示,再把模型的回答送回去。它不读取你的任何内容,关闭标签页即结束。",
  insecure:
    "这个页面是通过普通的 http:// 打开的,浏览器在这里隐藏 WebGPU。请用 https:// 打开,或在本机用 http://localhost 打开。",
  noGpu: "这个浏览器没有 WebGPU,无法生成回答。新版的 Chrome、Edge、Firefox 或 Safari 都有。",
  looking: "正在寻找 GPU……",
  onCpu: (name) => `没有 GPU:软件适配器(${name})在 CPU 上计算,速度很慢。`,
  onGpu: (name) => `GPU:${name}。`,
  paste: "你的邀请链接",
  take: "使用",
  noInvitation: "这不是邀请:请复制整个链接,从 https:// 到最后一个字母。",
  invited: (member, server) => `你以 ${member} 的身份受邀到 ${server}。`,
  until: (when) => `邀请有效期至 ${when}。`,
  secret: "谁有这个链接,谁就能以这个名字工作:它已从地址栏移除,只保存在这个标签页里。",
  forget: "忘记邀请",
  start: "开始工作",
  pause: "暂停",
  goOn: "继续",
  again: "再试一次",
  goesOn: "标签页隐藏时继续工作",
  why: "隐藏的标签页会变慢,也可能毫无预告地被停止;它的任务会让其他机器等半分钟。所以它会交还任务并暂停,等你回来再继续,除非你在这里另作选择。",
  phases: {
    ready: "没有在工作。",
    working: "正在工作。",
    leaving: "正在交还任务……",
    paused: "已暂停。任务已交还给其他机器。",
    hidden: "已暂停,因为标签页被隐藏。",
    over: "已停止。",
  },
  connecting: "正在连接服务器……",
  at: {
    away: "服务器没有应答,正在等待。",
    waiting: "正在等待任务:现在没有训练器需要回答。",
    fetching: "正在下载权重……",
    drawing: "正在生成回答。",
    "standing by": "待命:更快的标签页和机器已经够用。",
  },
  enough: (others) => `${others} 个已够用;几秒后再询问。`,
  file: (name, done, total) => `${name}:${done} / ${total}`,
  doing: "现在",
  jobs: "完成的任务",
  tokens: "生成的词元",
  pace: "每秒词元数",
  tab: "其他人看到的名字",
  failures: {
    unreachable: (server, origin) =>
      `${server} 没有应答这个页面。浏览器不说明原因:服务器没有运行,或被防火墙挡住;浏览器不认识它的证书;或者它不接受来自 ${origin} 的页面(webrlhf cluster init --browsers --page)。`,
    expired: () => "邀请已过期。请索取新的邀请。",
    refused: () => "服务器拒绝这个邀请:它已被撤销,或属于另一个集群。请索取新的邀请。",
    version: () => "训练器的 webrlhf 版本与这个页面不同:",
    gpu: () => "GPU 停止了工作:",
  },
};

export const tabWords: Record<Language, Words> = { en, zh };
