/** The part of the page by which runs at work are held, stopped and changed. */
import { inWords } from "../../rlhf/controls.ts";
import { escapeXml, showNumber } from "../text.ts";
import type { WatchedRun } from "./read.ts";

/** What runs may be asked for by whoever looks at the page. */
export interface Control {
  /** Lets requests in that change something; null where the page's address does not hold it, or nobody may. */
  readonly token: string | null;
  /** Why nothing can be asked for, of all runs; null where something can. */
  readonly off: string | null;
  /** Names of runs whose folders cannot be written. */
  readonly unwritable: ReadonlySet<string>;
  /** The query of the page, to come back to. */
  readonly back: string;
}

/** How a run stands, in a few words. */
export function stateOf({ record, standing, holder }: Pick<WatchedRun, "record" | "standing" | "holder">): string {
  if (record?.state !== "running") return record?.state ?? "";
  if (holder === null || holder?.alive === false) return "broken off";
  const where = holder?.alive === null ? ` on ${holder.host}` : "";
  return (standing?.state ?? "running") + where;
}

/** Controls of the chosen runs, and what was changed on their way. */
export function controlsOf(runs: readonly WatchedRun[], control: Control): string {
  const parts = runs.flatMap((run) => {
    const body = [controls(run, control), changes(run)].filter((part) => part !== "").join("");
    return body === "" ? [] : [`<h3>${escapeXml(run.name)}</h3>${body}`];
  });
  return parts.length === 0 ? "" : `<section id="controls"><h2>Controls</h2>${parts.join("")}</section>`;
}

function controls(run: WatchedRun, control: Control): string {
  const { name, record, standing, waiting } = run;
  const state = stateOf(run);
  if (record === null || record.state === "finished") return "";
  const say = (text: string) => `<p>${escapeXml(text)}</p>`;
  if (record.state === "failed") return say("It ended with an error, which its terminal has told.");
  const goOn = "The same command with --resume goes on from its newest checkpoint.";
  if (record.state === "stopped") return say(`It was stopped. ${goOn}`);
  if (state === "broken off") return say(`Its process is gone without having ended it. ${goOn}`);
  if (!standing)
    return say("It is at work and cannot be controlled: it is before its first step, or a program of its own.");
  if (control.off !== null) return say(control.off);
  if (control.unwritable.has(name)) return say("Its folder cannot be written from here, so it cannot be controlled.");
  const held = standing.state === "paused";
  const asked = waiting.length > 0 ? `Asked for, and heard after the step: ${waiting.map(inWords).join(", ")}.` : "";
  const stands = held ? `It is paused after step ${standing.step}.` : "";
  const far =
    run.holder?.alive === null ? `It runs on ${run.holder.host}; whether it still does cannot be seen from here.` : "";
  const words = [stands, asked, far].filter((text) => text !== "").join(" ");
  const buttons = [
    held ? button("continue", "Go on") : button("pause", "Pause"),
    button("save", "Save a checkpoint"),
    button("stop", "Stop and save"),
  ];
  const settings = Object.entries(standing.settings).map(
    ([setting, value]) =>
      `<form class="control bar" method="post" action="/control">${hidden(name, control)}<input type="hidden" name="setting" value="${escapeXml(setting)}"/>` +
      `<label>${escapeXml(setting)} <input name="value" inputmode="decimal" autocomplete="off" size="10" required value="${value}"/></label>` +
      `${button("set", `Change ${setting}`)}</form>`,
  );
  const label = escapeXml(`Controls of ${name}`);
  return `<div role="group" aria-label="${label}">${words === "" ? "" : say(words)}<form class="control bar" method="post" action="/control">${hidden(name, control)}${buttons.join("")}</form>${settings.join("")}</div>`;
}

const button = (ask: string, text: string): string => `<button name="ask" value="${ask}">${escapeXml(text)}</button>`;

const hidden = (run: string, { token, back }: Control): string =>
  Object.entries({ token: token ?? "", back, run })
    .map(([name, value]) => `<input type="hidden" name="${name}" value="${escapeXml(value)}"/>`)
    .join("");

function changes({ changes }: WatchedRun): string {
  if (changes.length === 0) return "";
  const rows = changes.map(
    ({ step, setting, from, to }) =>
      `<li>From step ${step} on ${escapeXml(setting)} is ${showNumber(to)}; it was ${showNumber(from)}.</li>`,
  );
  return `<p>Changed on its way:</p><ul>${rows.join("")}</ul>`;
}
