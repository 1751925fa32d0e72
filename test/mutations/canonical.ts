/** What was read, as one text that the reference readers write in the same way (scripts/mutate-files.py). */
export function canonical(value: unknown): string {
  if (value === null) return "n";
  if (value === true) return "t";
  if (value === false) return "f";
  if (typeof value === "string") return `s${JSON.stringify(value.replace(/\p{Surrogate}/gu, "\ufffd"))}`;
  if (typeof value === "bigint") return canonical(Number(value));
  if (typeof value === "number") return `d${bits(value)}`;
  if (value instanceof Date) return `T${bits(value.getTime())}`;
  if (value instanceof Uint8Array)
    return `b${Array.from(value, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (ArrayBuffer.isView(value)) return canonical(Array.from(value as unknown as ArrayLike<unknown>));
  if (typeof value !== "object") throw new Error(`no canonical form of ${typeof value}`);
  return `{${Object.entries(value)
    .map(([key, inner]) => `${canonical(key)}:${canonical(inner)}`)
    .sort()
    .join(",")}}`;
}

const view = new DataView(new ArrayBuffer(8));
function bits(value: number): string {
  view.setFloat64(0, Number.isNaN(value) ? Number.NaN : value);
  return view.getBigUint64(0).toString(16).padStart(16, "0");
}
