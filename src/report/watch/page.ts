/** The page around a view: the choice of runs and metrics, which works as a form without any script. */
import { chartStyle } from "../chart.ts";
import { diagnoses } from "../diagnoses/index.ts";
import { style } from "../page.ts";
import { escapeXml } from "../text.ts";
import { type Colouring, colourings } from "./view.ts";

/** What there is to choose, and what is chosen. */
export interface Choice {
  /** The folder that is watched, as it was named. */
  readonly title: string;
  readonly runs: readonly { readonly name: string; readonly chosen: boolean; readonly state: string }[];
  readonly metrics: readonly { readonly name: string; readonly chosen: boolean }[];
  readonly colour: Colouring;
  /** What lets requests in that change something, to keep in the page's address; null where there is nothing to keep. */
  readonly token: string | null;
}

const own = `
fieldset{border:1px solid var(--line);border-radius:.6rem;margin:1rem 0 0;padding:.6rem 1rem;display:flex;flex-wrap:wrap;gap:.4rem 1.4rem}
label{display:inline-flex;gap:.45rem;align-items:center;min-height:24px}
.bar{display:flex;flex-wrap:wrap;gap:.6rem 1.4rem;align-items:center;margin:1rem 0 0}
button,select,input[name=value]{font:inherit;color:inherit;background:var(--card);border:1px solid var(--soft);border-radius:.4rem;padding:.25rem .7rem;min-height:32px}
:focus-visible{outline:3px solid var(--chart-0);outline-offset:2px}
a{color:var(--chart-0)}
.findings li{margin:.5rem 0;max-width:80ch}
.texts{margin:.8rem 0}
.texts caption{text-align:left;font-weight:600;white-space:pre-wrap;overflow-wrap:anywhere}
.texts td,.texts th{white-space:pre-wrap;overflow-wrap:anywhere;text-align:left}
.token{border-radius:2px}
.runs b{font-weight:600}
`;

const whole = (title: string, body: string, script: boolean): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>${escapeXml(title)}</title>
<style>${style}${chartStyle}${own}</style>
${script ? '<script src="/watch.js" defer></script>' : ""}
</head>
<body>
<main>
${body}
</main>
</body>
</html>
`;

/** The page with its view. */
export function watchPage(choice: Choice, view: string): string {
  const { title, runs, metrics, colour, token } = choice;
  const body = `<header><h1>Runs in ${escapeXml(title)}</h1></header>
<form id="choice" action="/" method="get">
${token === null ? "" : `<input type="hidden" name="token" value="${escapeXml(token)}"/>`}
${runsOf(runs)}
<details><summary>Other metrics</summary><fieldset><legend>Metrics to draw instead of the usual ones</legend>
${metrics.map((one) => box("metric", one.name, one.chosen)).join("\n")}
</fieldset></details>
<div class="bar">
<label>Colour of tokens <select name="colour">${colourings.map((one) => `<option${one === colour ? " selected" : ""}>${one}</option>`).join("")}</select></label>
<button>Show</button>
<label><input type="checkbox" id="follow" checked/> Follow</label>
<span id="status" role="status"></span>
</div>
</form>
<div id="view">${view}</div>`;
  return whole(`Runs in ${title}`, body, true);
}

/** The part of the page that says how the runs stand. */
export const runsOf = (runs: Choice["runs"]): string =>
  `<fieldset id="runs" class="runs"><legend>Runs</legend>${
    runs.length === 0
      ? "<p>No run in here yet: a run is a folder with metrics.jsonl.</p>"
      : runs.map(({ name, chosen, state }) => box("run", name, chosen, state)).join("\n")
  }</fieldset>`;

const box = (kind: string, name: string, chosen: boolean, note = ""): string =>
  `<label><input type="checkbox" name="${kind}" value="${escapeXml(name)}"${chosen ? " checked" : ""}/> <b>${escapeXml(name)}</b> ${escapeXml(note)}</label>`;

/** All diagnoses, each with its thresholds. */
export function diagnosesPage(): string {
  const parts = diagnoses.map(
    ({ id, title, when, advice }) =>
      `<section id="${id}"><h2>${escapeXml(title)}</h2><p>${escapeXml(when)}</p><p><strong>What to do.</strong> ${escapeXml(advice)}</p></section>`,
  );
  const head =
    '<header><h1>Diagnoses</h1><p>When each is said of a run, and why from there on. <a href="/">Back to the runs</a></p></header>';
  return whole("Diagnoses", head + parts.join("\n"), false);
}

/** Asks for the view again and again, and puts in place what has changed of it. */
export const watchScript = `
const form = document.getElementById("choice");
const status = document.getElementById("status");
const follow = document.getElementById("follow");
let tag = "";
let asked = 0;
let trouble = "";
// What was said of something else stays until there is something new to say.
const say = (text) => {
  if (text !== trouble) status.textContent = text;
  trouble = text;
};
const query = () => new URLSearchParams([...new FormData(form)]).toString();
const put = (old, fresh) => {
  if (old.outerHTML === fresh.outerHTML) return;
  const open = new Set([...old.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
  for (const summary of fresh.querySelectorAll("summary")) {
    if (open.has(summary.textContent)) summary.parentElement.open = true;
  }
  const stops = "a, button, input, select, summary, [tabindex]";
  const at = [...old.querySelectorAll(stops)].indexOf(document.activeElement);
  // What somebody is about to change stays as it is written.
  const fields = 'input[name="value"]';
  const written = [...old.querySelectorAll(fields)].map((one) => (one.value === one.defaultValue ? null : one.value));
  if ([...fresh.querySelectorAll(fields)].length === written.length) {
    fresh.querySelectorAll(fields).forEach((one, i) => { if (written[i] !== null) one.value = written[i]; });
  }
  const scrolled = [...old.querySelectorAll(".scroll")].map((one) => [one.scrollTop, one.scrollLeft]);
  old.replaceWith(fresh);
  fresh.querySelectorAll(".scroll").forEach((one, i) => one.scrollTo(scrolled[i]?.[1] ?? 0, scrolled[i]?.[0] ?? 0));
  if (at >= 0) fresh.querySelectorAll(stops)[at]?.focus({ preventScroll: true });
};
async function refresh() {
  const mine = ++asked;
  try {
    const answer = await fetch("/view?" + query(), { headers: tag ? { "If-None-Match": tag } : {} });
    if (mine !== asked) return;
    say(answer.ok || answer.status === 304 ? "" : "The server answered " + answer.status + ".");
    if (!answer.ok) return;
    tag = answer.headers.get("ETag") ?? "";
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const view = document.getElementById("view");
    const parts = [...page.body.querySelectorAll("section, fieldset")];
    const ids = new Set(parts.map((part) => part.id));
    for (const part of parts) {
      const old = document.getElementById(part.id);
      if (old) put(old, part);
      else view.append(part);
    }
    for (const old of [...view.children]) if (!ids.has(old.id)) old.remove();
  } catch {
    say("The server does not answer: what is shown is what it said last.");
  }
}
const change = () => {
  tag = "";
  history.replaceState(null, "", "/?" + query());
  void refresh();
};
form.addEventListener("change", (event) => event.target !== follow && change());
form.addEventListener("submit", (event) => {
  event.preventDefault();
  change();
});
document.addEventListener("submit", (event) => {
  const sent = event.target;
  if (!sent.classList.contains("control")) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(sent, event.submitter));
  const ask = async () => {
    const answer = await fetch("/control", { method: "POST", body, redirect: "manual" });
    const refused = answer.type !== "opaqueredirect" && !answer.ok;
    if (!refused) for (const one of sent.querySelectorAll('input[name="value"]')) one.value = one.defaultValue;
    await refresh();
    status.textContent = refused ? (await answer.text()).trim() : "Asked for: the run hears it after its step.";
  };
  ask().catch(() => {
    status.textContent = "The server does not answer: nothing was asked for.";
  });
});
setInterval(() => follow.checked && !document.hidden && void refresh(), 2000);
`;
