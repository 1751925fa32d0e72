/** Small whole numbers as Parquet packs them: levels, indices into a dictionary, truth values. */

/** Bits that a number up to this one takes. */
export const bitsFor = (most: number): number => 32 - Math.clz32(most);

/** `count` numbers out of runs, each of one repeated number or of numbers with `width` bits, up to `most`. */
export function readRuns(bytes: Uint8Array, width: number, count: number, most: number): Uint32Array {
  if (width > 32) throw new Error(`numbers of ${width} bits`);
  const out = new Uint32Array(count);
  let at = 0;
  const need = (length: number) => {
    if (length > bytes.length - at) throw new Error("numbers that are cut off");
  };
  for (let done = 0; done < count; ) {
    let head = 0;
    for (let shift = 0; ; shift += 7) {
      need(1);
      const byte = bytes[at++];
      head += (byte & 127) * 2 ** shift;
      if (byte < 128) break;
      if (shift >= 28) throw new Error("a run whose length does not end");
    }
    const size = Math.floor(head / 2);
    if (size === 0) throw new Error("a run of nothing");
    if (head % 2 === 0) {
      const wide = Math.ceil(width / 8);
      need(wide);
      let value = 0;
      for (let i = 0; i < wide; i++) value += bytes[at++] * 256 ** i;
      if (value > most) throw new Error(`the number ${value} where ${most} is the largest`);
      const end = Math.min(count, done + size);
      out.fill(value, done, end);
      done = end;
    } else {
      const here = Math.min(count - done, 8 * size);
      need(Math.ceil((here * width) / 8));
      const values = unpack(bytes.subarray(at), width, here);
      for (let i = 0; i < here; i++) {
        if (values[i] > most) throw new Error(`the number ${values[i]} where ${most} is the largest`);
        out[done++] = values[i];
      }
      at = Math.min(bytes.length, at + size * width);
    }
  }
  return out;
}

/** `count` numbers of `width` bits, lowest bit first. The caller knows that the bytes are there. */
export function unpack(bytes: Uint8Array, width: number, count: number): Float64Array {
  const out = new Float64Array(count);
  let bit = 0;
  for (let i = 0; i < count; i++) {
    let value = 0;
    for (let got = 0; got < width; ) {
      const from = bit & 7;
      const take = Math.min(8 - from, width - got);
      value += ((bytes[bit >> 3] >> from) & ((1 << take) - 1)) * 2 ** got;
      got += take;
      bit += take;
    }
    out[i] = value;
  }
  return out;
}
