/** Features of many stories as text: a byte for each number, with a scale of its own for each feature. */
export interface Packed {
  /** What a byte of 1 stands for, feature by feature. */
  units: number[];
  /** Base64 of signed bytes, story after story. */
  bytes: string;
}

export function packFeatures(stories: readonly Float32Array[]): Packed {
  const units = [...stories[0]].map((_, k) => Math.max(...stories.map((story) => Math.abs(story[k]))) / 127 || 1);
  const short = units.map((unit) => Number(unit.toPrecision(5)));
  const bytes = Uint8Array.from(
    stories.flatMap((story) => [...story].map((x, k) => Math.min(127, Math.max(-127, Math.round(x / short[k]))) & 255)),
  );
  return { units: short, bytes: btoa(String.fromCharCode(...bytes)) };
}

export function unpackFeatures({ units, bytes }: Packed): Float32Array[] {
  const all = Int8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  return Array.from({ length: all.length / units.length }, (_, i) =>
    Float32Array.from(units, (unit, k) => all[i * units.length + k] * unit),
  );
}
