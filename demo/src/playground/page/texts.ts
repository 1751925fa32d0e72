/** The page's longer texts. */
import { el } from "./dom.ts";

export const intro = (): HTMLElement =>
  el(
    "header",
    {},
    el(
      "p",
      {},
      "A small language model learns what readers like, here in this tab. Does what it learns to please agree with the truth?",
    ),
  );

/** For browsers without WebGPU: what is missing, and where to find it. */
export const noWebGpu = (reason: string): HTMLElement =>
  el(
    "section",
    { class: "notice", "aria-labelledby": "no-webgpu" },
    el("h2", { id: "no-webgpu" }, "This browser cannot train here"),
    el("p", {}, reason),
    el("p", {}, "WebGPU lets a page compute on the graphics card; all training on this page runs on it."),
    el(
      "details",
      {},
      el("summary", {}, "Browsers that have it"),
      el(
        "ul",
        {},
        el("li", {}, "Chrome and Edge 113 or newer on Windows and macOS, Chrome 121 or newer on Android"),
        el("li", {}, "Safari 26 or newer on macOS, iOS and iPadOS"),
        el("li", {}, "Firefox 141 or newer on Windows, 145 or newer on Macs with Apple silicon"),
        el(
          "li",
          {},
          "Chrome on Linux: on by itself only with recent drivers; otherwise open ",
          el("code", {}, "chrome://flags/#enable-unsafe-webgpu"),
          ", enable it and start the browser anew. Without a graphics card Chrome then computes on the CPU: slow, but it works",
        ),
      ),
      el(
        "p",
        {},
        "The page must come from https:// or localhost. The same training runs without any browser: ",
        el("code", {}, "npm install && npm start"),
        " in the project's folder.",
      ),
    ),
    el("p", {}, "Below are recorded runs, so that you see what this page does."),
  );

export const background = (): HTMLElement =>
  el(
    "details",
    { class: "background" },
    el("summary", {}, "What happens here, and what the words mean"),
    el(
      "p",
      {},
      "First a reward model learns from pairs of stories which one is liked better. " +
        "Then the language model learns to write what the reward model likes. " +
        "The stories come from a made-up world, so the truth is known: watch whether the two agree.",
    ),
    el(
      "dl",
      {},
      ...Object.entries({
        "Reward model":
          "a copy of the language model that gives a story one number. It learns to give the preferred story of a pair the higher one. It is only a stand-in for the truth, learned from few and noisy choices.",
        Truth:
          "the world's own rules: name the hero, get the wished thing, use it sensibly, be kind, end well, do not repeat. Never shown to the training, only plotted.",
        PPO: "samples stories, scores them with the reward model, and makes the better ones more likely, in small clipped steps, with a penalty for leaving the start.",
        RAFT: "samples eight stories to each prompt, keeps the best by the reward model, and learns to write like them.",
        KL: "how far the policy has moved from the language model it started as, in nats per response. Far away, the reward model has never seen such stories, and its judgement is worth little.",
        "±": "the standard error: how far off the number may well be, judged from so few prompts. The same prompts are answered before and after, and the page says better or worse only when the difference is more than twice its standard error.",
        sd: "standard deviation of the stories before training. +1 sd: the average story is now as good as a clearly good one was before.",
      }).flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]),
    ),
  );
