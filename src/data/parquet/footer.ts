/** The end of a Parquet file: its schema as a tree, and where each group of rows has its columns. */
import type { OpenFile } from "../../runtime/open.ts";
import { type ThriftFields, ThriftReader, type ThriftRecord } from "./thrift.ts";

export type Repetition = "required" | "optional" | "repeated";
export const PHYSICAL = ["BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED"] as const;
export type Physical = (typeof PHYSICAL)[number];

/** A column or a group of columns. */
export interface SchemaNode {
  name: string;
  /** Names from the top, joined by dots, for messages. */
  path: string;
  repetition: Repetition;
  /** The definition level from which on it is there, and the repetition level of its items. */
  definition: number;
  level: number;
  /** What its values mean: a name of a logical type such as "STRING", or "". */
  meaning: string;
  children: SchemaNode[];
  /** The columns in it; of a column itself. */
  leaves: Leaf[];
}

/** A column that is stored. */
export interface Leaf extends SchemaNode {
  type: Physical;
  /** Bytes of a value of fixed length. */
  length: number;
  /** Decimal places, of a decimal number. */
  scale: number;
  index: number;
}

/** The place of a column of a group of rows. */
export interface Chunk {
  start: number;
  length: number;
  values: number;
  codec: number;
}

export interface Footer {
  root: SchemaNode;
  groups: { rows: number; chunks: Chunk[] }[];
}

const UNIT: ThriftFields = { 1: ["MILLIS", {}], 2: ["MICROS", {}], 3: ["NANOS", {}] };
const LOGICAL: ThriftFields = {
  1: ["STRING", {}],
  2: ["MAP", {}],
  3: ["LIST", {}],
  4: ["ENUM", {}],
  5: ["DECIMAL", { 1: ["scale", "i32", "needed"], 2: ["precision", "i32", "needed"] }],
  6: ["DATE", {}],
  7: ["TIME", {}],
  8: ["TIMESTAMP", { 2: ["unit", UNIT, "needed"] }],
  10: ["INTEGER", { 1: ["bits", "i8", "needed"], 2: ["signed", "bool", "needed"] }],
  11: ["NULL", {}],
  12: ["JSON", {}],
  13: ["BSON", {}],
  14: ["UUID", {}],
  15: ["FLOAT16", {}],
  16: ["VARIANT", {}],
  17: ["GEOMETRY", {}],
  18: ["GEOGRAPHY", {}],
};
/** The older way to say what values mean, by number. */
const CONVERTED =
  "STRING,MAP,MAP,LIST,ENUM,DECIMAL,DATE,TIME,TIME,TIMESTAMP_MILLIS,TIMESTAMP_MICROS,UINT_8,UINT_16,UINT_32,UINT_64,INT_8,INT_16,INT_32,INT_64,JSON,BSON,INTERVAL".split(
    ",",
  );
const ELEMENT: ThriftFields = {
  1: ["type", "i32"],
  2: ["length", "i32"],
  3: ["repetition", "i32"],
  4: ["name", "text", "needed"],
  5: ["children", "i32"],
  6: ["converted", "i32"],
  7: ["scale", "i32"],
  10: ["logical", LOGICAL],
};
const COLUMN: ThriftFields = {
  1: ["type", "i32", "needed"],
  3: ["path", ["text"], "needed"],
  4: ["codec", "i32", "needed"],
  5: ["values", "i64", "needed"],
  7: ["size", "i64", "needed"],
  9: ["data", "i64", "needed"],
  11: ["dictionary", "i64"],
};
const GROUP: ThriftFields = {
  1: ["columns", [{ 1: ["file", "text"], 3: ["meta", COLUMN], 8: ["crypto", {}] }], "needed"],
  3: ["rows", "i64", "needed"],
};
const FILE: ThriftFields = {
  2: ["schema", [ELEMENT], "needed"],
  3: ["rows", "i64", "needed"],
  4: ["groups", [GROUP], "needed"],
};

const MAGIC = "PAR1";
const MOST_LEVELS = 100;
/** Values of a column in one group of rows, and with the nulls among them a few bytes of memory for each. */
const MOST_VALUES = 2 ** 27;
/** Bytes of a footer: it describes the file, it does not hold the data. */
const LARGEST_FOOTER = 256 * 2 ** 20;

/** @throws Error for what is no footer, or one that contradicts itself or the file */
export async function readFooter(file: OpenFile): Promise<Footer> {
  if (file.size < 12) throw new Error("it is too short");
  const end = await file.read(file.size - 8, 8);
  const start = await file.read(0, 4);
  const mark = String.fromCharCode(...end.subarray(4));
  if (mark === "PARE") throw new Error("it is encrypted");
  if (mark !== MAGIC || String.fromCharCode(...start) !== MAGIC)
    throw new Error(`it does not begin and end with ${MAGIC}`);
  const length = new DataView(end.buffer, end.byteOffset).getUint32(0, true);
  if (length > Math.min(file.size - 12, LARGEST_FOOTER)) throw new Error(`a footer of ${length} bytes`);
  const reader = new ThriftReader(await file.read(file.size - 8 - length, length));
  const { schema, rows, groups } = reader.record(FILE) as {
    schema: ThriftRecord[];
    rows: number;
    groups: { columns: ThriftRecord[]; rows: number }[];
  };
  const root = schemaTree(schema);
  const made = groups.map((group, at) => {
    if (group.rows < 0) throw new Error(`row group ${at + 1} has ${group.rows} rows`);
    if (group.columns.length !== root.leaves.length) {
      throw new Error(`row group ${at + 1} has ${group.columns.length} columns, the schema ${root.leaves.length}`);
    }
    return { rows: group.rows, chunks: group.columns.map((column, i) => chunk(column, root.leaves[i], file.size, at)) };
  });
  const total = made.reduce((sum, group) => sum + group.rows, 0);
  if (total !== rows) throw new Error(`its row groups have ${total} rows, but the file says ${rows}`);
  return { root, groups: made };
}

function chunk(column: ThriftRecord, leaf: Leaf, fileSize: number, group: number): Chunk {
  const fail = (what: string): never => {
    throw new Error(`column ${leaf.path}, row group ${group + 1}: ${what}`);
  };
  if (column.file) return fail("its values are in another file");
  if (!column.meta || column.crypto) return fail("it is encrypted, or its description is missing");
  const meta = column.meta as Record<"type" | "codec" | "values" | "size" | "data", number> & {
    path: string[];
    dictionary?: number;
  };
  if (meta.path.join(".") !== leaf.path) fail(`the place is that of ${meta.path.join(".")}`);
  if (PHYSICAL[meta.type] !== leaf.type) fail(`its type is ${PHYSICAL[meta.type]}, in the schema ${leaf.type}`);
  const { dictionary = 0, data } = meta;
  const start = dictionary > 0 && dictionary < data ? dictionary : data;
  if (!(start >= 4 && meta.size >= 0 && start + meta.size <= fileSize) || meta.values < 0) {
    fail(`${meta.size} bytes from ${start} with ${meta.values} values are not in a file of ${fileSize} bytes`);
  }
  if (meta.values > MOST_VALUES) fail(`${meta.values} values are too many for one group of rows`);
  return { start, length: meta.size, values: meta.values, codec: meta.codec };
}

/** The tree of a schema, which is stored as a list: each group is followed by its children. */
function schemaTree(elements: readonly ThriftRecord[]): SchemaNode {
  const leaves: Leaf[] = [];
  let at = 0;
  const next = (parent: SchemaNode | null): SchemaNode => {
    const element = elements[at++] as ThriftRecord & {
      name: string;
      children?: number;
      repetition?: number;
      type?: number;
    };
    if (!element) throw new Error("its schema ends too early");
    const { name, children: count = 0 } = element;
    const repetition = parent ? (["required", "optional", "repeated"] as const)[element.repetition ?? -1] : "required";
    if (!repetition) throw new Error(`the repetition of ${name} is ${element.repetition}`);
    const isGroup = parent === null || element.type === undefined;
    const node: SchemaNode = {
      name,
      path: parent?.path ? `${parent.path}.${name}` : parent ? name : "",
      repetition,
      definition: (parent?.definition ?? 0) + (repetition === "required" ? 0 : 1),
      level: (parent?.level ?? 0) + (repetition === "repeated" ? 1 : 0),
      meaning: meaningOf(element, name),
      children: [],
      leaves: [],
    };
    if (node.path.split(".").length > MOST_LEVELS) throw new Error("its schema is nested too deep");
    if (isGroup) {
      if (count < (parent ? 1 : 0) || count > elements.length - at) throw new Error(`${name} has ${count} columns`);
      const first = leaves.length;
      for (let i = 0; i < count; i++) node.children.push(next(node));
      node.leaves = leaves.slice(first);
      const twice = node.children.find(({ name }, i) => node.children.findIndex((other) => other.name === name) !== i);
      if (twice) throw new Error(`there are two columns ${twice.path}`);
      return node;
    }
    const type = PHYSICAL[element.type as number];
    if (!type || count > 0) throw new Error(`${node.path} is of type ${element.type} with ${count} columns in it`);
    const decimals = (element.logical as { DECIMAL?: { scale: number } } | undefined)?.DECIMAL?.scale;
    const leaf: Leaf = Object.assign(node, {
      type,
      length: Number(element.length ?? 0),
      scale: decimals ?? Number(element.scale ?? 0),
      index: leaves.length,
    });
    if (type === "FIXED" && leaf.length < 1) throw new Error(`${node.path} has values of ${leaf.length} bytes`);
    leaf.leaves = [leaf];
    leaves.push(leaf);
    return leaf;
  };
  const root = next(null);
  if (at !== elements.length) throw new Error("its schema has columns that belong to nothing");
  return root;
}

function meaningOf(element: ThriftRecord, name: string): string {
  const logical = (element.logical ?? {}) as Record<string, ThriftRecord>;
  const [kind] = Object.keys(logical);
  if (kind === "TIMESTAMP") {
    const [unit] = Object.keys(logical.TIMESTAMP.unit as ThriftRecord);
    if (!unit) throw new Error(`the unit of the times in ${name} is not known`);
    return `TIMESTAMP_${unit}`;
  }
  if (kind === "INTEGER") {
    const { bits, signed } = logical.INTEGER as { bits: number; signed: boolean };
    if (![8, 16, 32, 64].includes(bits)) throw new Error(`${name} has whole numbers of ${bits} bits`);
    return `${signed ? "" : "U"}INT_${bits}`;
  }
  if (kind !== undefined) return kind; // whatever the older field says
  if (element.logical) throw new Error(`what the values of ${name} mean is not known here`);
  const converted = element.converted as number | undefined;
  if (converted !== undefined) {
    if (!CONVERTED[converted]) throw new Error(`what the values of ${name} mean is not known (${converted})`);
    return CONVERTED[converted];
  }
  return "";
}
