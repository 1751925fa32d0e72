import { chartStyle } from "./chart.ts";
import { escapeXml } from "./text.ts";

export const style = `
:root{color-scheme:light dark;--ink:#1b2026;--paper:#fff;--soft:#5a6570;--line:#d9dfe5;--card:#f5f7f9;--good:#00724f}
@media (prefers-color-scheme:dark){:root{--ink:#e4e9ee;--paper:#14181d;--soft:#9da9b5;--line:#323a43;--card:#1c2229;--good:#4fd1a1}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1100px;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem}
h2{font-size:1.3rem;margin:2.8rem 0 .5rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1.02rem;margin:1.6rem 0 .4rem}
p{max-width:70ch;margin:.4rem 0 .8rem}
.soft{color:var(--soft)}
.facts{display:flex;flex-wrap:wrap;gap:.2rem 1.6rem;margin:.6rem 0 0;padding:0;list-style:none;color:var(--soft);font-size:.9rem}
.facts b{color:var(--ink);font-weight:600}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(11.5rem,1fr));gap:.8rem;margin:1.4rem 0 0;padding:0;list-style:none}
.cards li{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}
.cards strong{display:block;font-size:1.6rem;line-height:1.25;font-variant-numeric:tabular-nums}
.cards span{color:var(--soft);font-size:.87rem}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1.2rem 1.6rem}
figure{margin:.6rem 0 0;min-width:0}
figure svg{display:block;height:auto}
.wide .plot{overflow-x:auto}
.wide svg{min-width:40rem}
details{font-size:.87rem;margin:.2rem 0 0}
summary{cursor:pointer;color:var(--soft)}
.scroll{overflow-x:auto;max-height:22rem}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .7rem;text-align:right;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}
thead th{font-weight:600;color:var(--soft);white-space:normal;vertical-align:bottom}
th:first-child{text-align:left}
tr.best td,tr.best th{font-weight:650}
.samples td.text{text-align:left;white-space:pre-wrap;overflow-wrap:anywhere;width:100%;font-family:ui-serif,Georgia,serif}
.samples thead .text{text-align:left}
.samples tbody th{text-align:left;font-weight:600}
.samples .prompt th{background:var(--card);white-space:pre-wrap;overflow-wrap:anywhere;font-weight:500;padding-top:.6rem}
.tag{color:var(--soft);font-weight:400}
@media print{details{display:none}}
`;

/** A whole HTML document around `body`, with no outside resource and no script. `body` is HTML, the rest is text. */
export function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"/>
<title>${escapeXml(title)}</title>
<style>${style}${chartStyle}
</style>
</head>
<body>
<main>
${body}
</main>
</body>
</html>
`;
}
