/** A column of a group of rows: its pages read, checked and put together. */
import { crc32 } from "../../runtime/crc32.ts";
import { decompressor, decompressPage } from "./compression.ts";
import type { Chunk, Leaf } from "./footer.ts";
import { bitsFor, readRuns } from "./levels.ts";
import { type ThriftFields, ThriftReader, type ThriftRecord } from "./thrift.ts";
import { ENCODING, readValues, type Values, withLength } from "./values.ts";

/** A column as Parquet stores it: values, and for each place in the rows at which level it is there and repeats. */
export interface ColumnData {
  /** Values in the order of the rows; absent ones are left out. */
  values: Values[];
  /** For each place how many of the optional parts of its path are there; null where all of them always are. */
  definitions: Uint32Array[] | null;
  /** For each place the level of the list that it goes on; null where there is no list. */
  repetitions: Uint32Array[] | null;
}

const PAGE: ThriftFields = {
  1: ["type", "i32", "needed"],
  2: ["size", "i32", "needed"],
  3: ["compressed", "i32", "needed"],
  4: ["crc", "i32"],
  5: [
    "data",
    {
      1: ["values", "i32", "needed"],
      2: ["encoding", "i32", "needed"],
      3: ["definitions", "i32"],
      4: ["repetitions", "i32"],
    },
  ],
  7: ["dictionary", { 1: ["values", "i32", "needed"], 2: ["encoding", "i32", "needed"] }],
  8: [
    "data2",
    {
      1: ["values", "i32", "needed"],
      2: ["nulls", "i32", "needed"],
      3: ["rows", "i32", "needed"],
      4: ["encoding", "i32", "needed"],
      5: ["definitions", "i32", "needed"],
      6: ["repetitions", "i32", "needed"],
      7: ["isCompressed", "bool"],
    },
  ],
};
const [DATA, INDEX, DICTIONARY, DATA2] = [0, 1, 2, 3];

interface Page {
  values: number;
  encoding: number;
  nulls?: number;
  rows?: number;
  definitions?: number;
  repetitions?: number;
  isCompressed?: boolean;
}

/**
 * @param bytes of the column in its group of rows
 * @param rows of the group
 * @throws Error for pages that are damaged, or are not what the file's footer says
 */
export async function readColumn(bytes: Uint8Array, leaf: Leaf, chunk: Chunk, rows: number): Promise<ColumnData> {
  const decompress = await decompressor(chunk.codec);
  const column = new Column(leaf);
  const reader = new ThriftReader(bytes);
  let dictionary: Values | null = null;
  while (column.places < chunk.values) {
    if (reader.offset >= bytes.length) {
      throw new Error(`its pages have ${column.places} values, the file's end says ${chunk.values}`);
    }
    const header = reader.record(PAGE) as { type: number; size: number; compressed: number; crc?: number };
    const { type, size, compressed, crc } = header;
    if (!(compressed >= 0 && compressed <= bytes.length - reader.offset)) {
      throw new Error(`a page of ${compressed} bytes reaches past its end`);
    }
    const raw = bytes.subarray(reader.offset, reader.offset + compressed);
    reader.offset += compressed;
    if (crc !== undefined && crc >>> 0 !== crc32(raw)) throw new Error("the checksum of a page is wrong");
    if (type === INDEX) continue;
    const kind = ["data", "", "dictionary", "data2"][type];
    const page = kind && (header as ThriftRecord)[kind];
    if (!page) throw new Error(`a page of type ${type} without what belongs to it`);
    const { values, encoding } = page as Page;
    if (values < 0) throw new Error(`a page of ${values} values`);
    if (type === DICTIONARY) {
      if (dictionary) throw new Error("it has two dictionaries");
      if (column.places > 0) throw new Error("its dictionary comes too late");
      if (encoding !== ENCODING.plain && encoding !== ENCODING.plainDictionary) {
        throw new Error(`its dictionary has encoding ${encoding}`);
      }
      dictionary = readValues(decompressPage(decompress, raw, size), leaf, ENCODING.plain, values, null);
    } else if (values > chunk.values - column.places) {
      throw new Error(`its pages have more values than the ${chunk.values} that the file's end says`);
    } else if (type === DATA) {
      column.add(decompressPage(decompress, raw, size), page as Page, dictionary);
    } else if (type === DATA2) {
      const { definitions, repetitions, isCompressed } = page as Required<Page>;
      const levels = definitions + repetitions;
      if (!(definitions >= 0 && repetitions >= 0 && levels <= raw.length)) throw new Error("levels that are cut off");
      const body = raw.subarray(levels);
      const content =
        isCompressed === false
          ? decompressPage((input) => input, body, size - levels)
          : decompressPage(decompress, body, size - levels);
      column.add2(raw.subarray(0, levels), content, page as Required<Page>, dictionary);
    }
  }
  if (column.rows !== rows) throw new Error(`it has ${column.rows} rows, its group ${rows}`);
  return column;
}

class Column implements ColumnData {
  readonly values: Values[] = [];
  readonly definitions: Uint32Array[] | null;
  readonly repetitions: Uint32Array[] | null;
  places = 0;
  rows = 0;
  private readonly leaf: Leaf;

  constructor(leaf: Leaf) {
    this.leaf = leaf;
    this.definitions = leaf.definition > 0 ? [] : null;
    this.repetitions = leaf.level > 0 ? [] : null;
  }

  /** A page whose levels are compressed with its values. */
  add(bytes: Uint8Array, page: Page, dictionary: Values | null): void {
    let rest = bytes;
    const levels = (most: number, encoding: number | undefined): Uint32Array | null => {
      if (most === 0) return null;
      if (encoding !== ENCODING.runs) throw new Error(`levels in encoding ${encoding}`);
      const packed = withLength(rest);
      rest = rest.subarray(4 + packed.length);
      return readRuns(packed, bitsFor(most), page.values, most);
    };
    const repetitions = levels(this.leaf.level, page.repetitions);
    const definitions = levels(this.leaf.definition, page.definitions);
    this.put(rest, page, repetitions, definitions, dictionary);
  }

  /** A page whose levels come before its values. */
  add2(levels: Uint8Array, bytes: Uint8Array, page: Required<Page>, dictionary: Values | null): void {
    const { leaf } = this;
    const read = (from: number, to: number, most: number) =>
      most === 0 ? null : readRuns(levels.subarray(from, to), bitsFor(most), page.values, most);
    const repetitions = read(0, page.repetitions, leaf.level);
    const definitions = read(page.repetitions, levels.length, leaf.definition);
    const before = this.rows;
    const absent = this.put(bytes, page, repetitions, definitions, dictionary);
    if (absent !== page.nulls) throw new Error(`a page has ${absent} empty places, its header says ${page.nulls}`);
    if (this.rows - before !== page.rows) throw new Error(`a page has ${this.rows - before} rows, not ${page.rows}`);
  }

  /** @returns how many places have no value */
  private put(
    bytes: Uint8Array,
    page: Page,
    repetitions: Uint32Array | null,
    definitions: Uint32Array | null,
    dictionary: Values | null,
  ): number {
    const there = definitions?.reduce((n, level) => n + (level === this.leaf.definition ? 1 : 0), 0) ?? page.values;
    this.values.push(readValues(bytes, this.leaf, page.encoding, there, dictionary));
    if (repetitions && this.places === 0 && repetitions.length > 0 && repetitions[0] !== 0) {
      throw new Error("its first row begins in the middle");
    }
    this.rows += repetitions?.reduce((n, level) => n + (level === 0 ? 1 : 0), 0) ?? page.values;
    this.places += page.values;
    if (definitions) this.definitions?.push(definitions);
    if (repetitions) this.repetitions?.push(repetitions);
    return page.values - there;
  }
}
