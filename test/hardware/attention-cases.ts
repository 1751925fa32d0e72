/** Awkward sequences for attention in blocks of rows. */
import fc from "fast-check";

/** Lengths meet the blocks of 64 rows and the tiles of 32. */
const lengths = fc.constantFrom(1, 2, 31, 32, 33, 63, 64, 65, 100, 130);
/** Packed sequences, with gaps between them and rows of padding. */
export const sequences = fc
  .array(fc.record({ gap: fc.constantFrom(0, 0, 3), length: lengths, pad: fc.constantFrom(0, 0, 0, 1, 40) }), {
    minLength: 1,
    maxLength: 3,
  })
  .map((list) => {
    let at = 0;
    const starts = list.map(({ gap, length }) => {
      at += gap + length;
      return at - length;
    });
    return {
      lengths: list.map(({ length }) => length),
      pads: list.map(({ length, pad }) => Math.min(pad, length)),
      starts,
      rows: at + 1,
    };
  });
/** Query heads, and key and value heads. */
export const groups = fc.constantFrom<[number, number][]>([1, 1], [2, 2], [3, 1], [4, 2]);
/** Sequences that outgrow a window of 33: one that none outgrows would be none, in kernels of its own. */
export const outgrown = sequences.filter(({ lengths }) => Math.max(...lengths) > 33);
