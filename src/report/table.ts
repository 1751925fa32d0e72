import { type ChartSpec, lineChart, thin } from "./chart.ts";
import { escapeXml, showNumber } from "./text.ts";

/** A column of a table: its heading, and each row's value, where null shows as missing. */
export interface TableColumn<R> {
  readonly title: string;
  readonly value: (row: R) => string | number | null;
  /** Significant digits of numbers. */
  readonly digits?: number;
}

/** An HTML table whose first column names the rows. `best` marks one row. */
export function table<R>(columns: readonly TableColumn<R>[], rows: readonly R[], best?: R): string {
  const shown = (column: TableColumn<R>, row: R) => {
    const value = column.value(row);
    return escapeXml(typeof value === "string" ? value : showNumber(value, column.digits));
  };
  const head = columns.map((column) => `<th scope="col">${escapeXml(column.title)}</th>`).join("");
  const body = rows.map((row) => {
    const cells = columns.map((c, i) =>
      i === 0 ? `<th scope="row">${shown(c, row)}</th>` : `<td>${shown(c, row)}</td>`,
    );
    return `<tr${row === best ? ' class="best"' : ""}>${cells.join("")}</tr>`;
  });
  return `<table><thead><tr>${head}</tr></thead><tbody>${body.join("")}</tbody></table>`;
}

const maxRows = 200;

/** A chart, its numbers in a folded table. */
export function figure(spec: ChartSpec): string {
  const series = spec.series.filter((s) => !s.faint || s.points.length > 0);
  const sameX = series.every(
    (s) => s.points.length === series[0]?.points.length && s.points.every((p, i) => p[0] === series[0].points[i][0]),
  );
  const note = (total: number) =>
    total > maxRows ? `<p class="soft">${maxRows} of ${total} rows, at equal distances.</p>` : "";
  let data: string;
  if (sameX && series.length > 0) {
    const indices = series[0].points.map((_, i) => i);
    const columns: TableColumn<number>[] = [
      { title: spec.xLabel, value: (i) => series[0].points[i][0], digits: 5 },
      ...series.map((s) => ({ title: s.name, value: (i: number) => s.points[i][1], digits: 4 })),
    ];
    data = table(columns, thin(indices, maxRows)) + note(indices.length);
  } else {
    const rows = series.flatMap((s) => s.points.map(([x, y]) => ({ name: s.name, x, y })));
    const columns: TableColumn<(typeof rows)[number]>[] = [
      { title: "series", value: (row) => row.name },
      { title: spec.xLabel, value: (row) => row.x, digits: 5 },
      { title: spec.yLabel, value: (row) => row.y, digits: 4 },
    ];
    data = table(columns, thin(rows, maxRows)) + note(rows.length);
  }
  const wide = (spec.width ?? 640) > 700;
  // A wide chart scrolls on a narrow page, so it must be reachable by keyboard.
  const plot = wide ? '<div class="plot" tabindex="0" role="region" aria-label="Chart">' : "<div>";
  return `<figure${wide ? ' class="wide"' : ""}>${plot}${lineChart(spec)}</div><details><summary>Data of “${escapeXml(spec.title)}”</summary><div class="scroll" tabindex="0" role="region" aria-label="${escapeXml(spec.title)}">${data}</div></details></figure>`;
}
