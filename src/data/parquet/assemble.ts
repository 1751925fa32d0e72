/** Rows out of columns: lists and records are put together again from the levels at which their values are there. */
import type { Leaf, SchemaNode } from "./footer.ts";
import { converter } from "./meaning.ts";
import type { ColumnData } from "./pages.ts";

/** Where one column is being read. */
class Cursor {
  readonly leaf: Leaf;
  private readonly convert: (value: unknown) => unknown;
  private readonly values: Iterator<unknown>;
  private readonly definitions: Iterator<number> | null;
  private readonly repetitions: Iterator<number> | null;
  /** The levels of the next place; a repetition level of -1 is the end. */
  definition = 0;
  repetition = 0;
  private left: number;

  constructor(leaf: Leaf, column: ColumnData, places: number) {
    this.leaf = leaf;
    this.convert = converter(leaf);
    this.values = chained(column.values);
    this.definitions = column.definitions && chained(column.definitions);
    this.repetitions = column.repetitions && chained(column.repetitions);
    this.left = places;
    this.step();
  }

  step(): void {
    this.definition = this.definitions ? (this.definitions.next().value as number) : 0;
    this.repetition = this.repetitions ? (this.repetitions.next().value as number) : 0;
    if (this.left-- === 0) this.repetition = -1;
  }

  value(): unknown {
    const { value } = this.values.next();
    this.step();
    return this.convert(value);
  }
}

function* chained<T>(arrays: readonly ArrayLike<T>[]): Generator<T> {
  for (const array of arrays) for (let i = 0; i < array.length; i++) yield array[i];
}

type Node = SchemaNode & { cursors: Cursor[]; nodes: Node[] };

/**
 * The rows of a group.
 * @throws Error where the columns of a list or record contradict each other, or a value is not what the schema says
 */
export function* rowsOf(
  root: SchemaNode,
  columns: readonly ColumnData[],
  places: readonly number[],
  rows: number,
): Generator<Record<string, unknown>> {
  const cursors = root.leaves.map((leaf, i) => new Cursor(leaf, columns[i], places[i]));
  const top = withCursors(root, cursors);
  for (let row = 0; row < rows; row++) yield record(top);
  for (const { leaf, repetition } of cursors) {
    if (repetition !== -1) throw new Error(`column ${leaf.path} goes on after the last row`);
  }
}

function withCursors(node: SchemaNode, cursors: readonly Cursor[]): Node {
  return {
    ...node,
    cursors: node.leaves.map((leaf) => cursors[leaf.index]),
    nodes: node.children.map((child) => withCursors(child, cursors)),
  };
}

function record(node: Node): Record<string, unknown> {
  return Object.fromEntries(node.nodes.map((child) => [child.name, field(child)]));
}

/** What is at the place of a column: a value, null, or a list. */
function field(node: Node): unknown {
  if (node.repetition === "required") return present(node);
  if (!isThere(node)) return node.repetition === "repeated" ? [] : null;
  if (node.repetition === "optional") return present(node);
  const items = [];
  do {
    if (!agree(node, ({ definition }) => definition >= node.definition)) {
      throw new Error(`column ${node.leaves[0].path}: a list goes on with an item that is not there`);
    }
    items.push(present(node));
  } while (agree(node, ({ repetition }) => repetition === node.level));
  return items;
}

/** Whether the part is there; if not, its columns go on to the next place. */
function isThere(node: Node): boolean {
  if (agree(node, ({ definition }) => definition >= node.definition)) return true;
  for (const cursor of node.cursors) cursor.step();
  return false;
}

/** What all columns of a part must say alike. */
function agree(node: Node, says: (cursor: Cursor) => boolean): boolean {
  const answer = says(node.cursors[0]);
  if (node.cursors.some((cursor) => says(cursor) !== answer)) throw new Error(`the columns of ${node.path} do not fit`);
  return answer;
}

function present(node: Node): unknown {
  if (node.nodes.length === 0) {
    const [cursor] = node.cursors;
    try {
      return cursor.value();
    } catch (error) {
      throw new Error(`column ${node.path}: ${(error as Error).message}`, { cause: error });
    }
  }
  const [only] = node.nodes;
  const isList = node.meaning === "LIST" || node.meaning === "MAP";
  if (!isList || node.nodes.length > 1 || only.repetition !== "repeated") return record(node);
  const items = field(only) as unknown[];
  if (node.meaning === "MAP") {
    const [key, value] = only.nodes;
    return Object.fromEntries(
      (items as Record<string, unknown>[]).map((item) => [String(item[key.name]), value ? item[value.name] : null]),
    );
  }
  // Older writers make the repeated part the item itself.
  const [inner] = only.nodes;
  const isItem = only.nodes.length !== 1 || only.name === "array" || only.name === `${node.name}_tuple`;
  return isItem ? items : (items as Record<string, unknown>[]).map((item) => item[inner.name]);
}
