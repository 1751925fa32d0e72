/**
 * The part of Python's pickle format in which PyTorch describes a dictionary of tensors. Nothing of a file is ever run: of
 * Python's objects only dictionaries, lists, tuples, numbers, texts and tensors are made, by the few names below, and whatever
 * else a file asks for is refused by its name. Each instruction takes at least a byte of the file, and nothing is copied, so a
 * file cannot ask for more memory than in proportion to its own length.
 */
import { UserError } from "../runtime/errors.ts";
import type { DType } from "./dtypes.ts";

/** A tensor as the pickle describes it: elements of a storage, which is a file of the archive. */
export interface PickledTensor {
  dtype: DType;
  /** Name of the storage's file. */
  storage: string;
  /** Elements of the storage. */
  storageSize: number;
  /** First element. */
  offset: number;
  shape: number[];
  stride: number[];
}

const STORAGES: Readonly<Record<string, DType>> = {
  DoubleStorage: "F64",
  FloatStorage: "F32",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
};

const DICT = "collections.OrderedDict";
const TENSOR = "torch._utils._rebuild_tensor_v2";
const PARAMETER = "torch._utils._rebuild_parameter";

/** A name of Python's, which stands for nothing but itself. */
class Name {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

class Storage {
  readonly dtype: DType;
  readonly key: string;
  readonly size: number;
  constructor(dtype: DType, key: string, size: number) {
    this.dtype = dtype;
    this.key = key;
    this.size = size;
  }
}

class Pickled {
  readonly tensor: PickledTensor;
  constructor(tensor: PickledTensor) {
    this.tensor = tensor;
  }
}

type Dict = Map<unknown, unknown>;

/**
 * The tensors of a pickled dictionary, by name, in its order.
 * @param file what messages start with
 * @throws UserError for whatever is no dictionary of tensors, and for every name that is no part of one
 */
export function unpickleTensors(bytes: Uint8Array, file: string): Map<string, PickledTensor> {
  const top = new Reader(bytes, file).run();
  const fail = (what: string): never => {
    throw new UserError(`${file}: ${what}; a dictionary of tensors is read, as model.state_dict() is`);
  };
  if (!(top instanceof Map)) return fail("it holds no dictionary");
  const tensors = new Map<string, PickledTensor>();
  for (const [name, value] of top as Dict) {
    if (typeof name !== "string") return fail("a name in it is no text");
    if (!(value instanceof Pickled)) return fail(`${JSON.stringify(name)} in it is no tensor`);
    tensors.set(name, value.tensor);
  }
  return tensors;
}

const MARK = Symbol("mark");

class Reader {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly file: string;
  private readonly stack: unknown[] = [];
  private readonly memo = new Map<number, unknown>();
  private at = 0;

  constructor(bytes: Uint8Array, file: string) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.file = file;
  }

  private fail(what: string): never {
    throw new UserError(`${this.file}: ${what}`);
  }

  private damaged(): never {
    return this.fail(`damaged: its description of tensors makes no sense at byte ${this.at}`);
  }

  /** Steps over `length` bytes and gives where they start. */
  private take(length: number): number {
    const from = this.at;
    if (!(length <= this.bytes.length - from)) this.damaged();
    this.at += length;
    return from;
  }

  private u8 = (): number => this.bytes[this.take(1)];
  private u32 = (): number => this.view.getUint32(this.take(4), true);

  private text(length: number): string {
    const from = this.take(length);
    try {
      return decoder.decode(this.bytes.subarray(from, from + length));
    } catch {
      return this.damaged();
    }
  }

  private line(): string {
    const end = this.bytes.indexOf(10, this.at);
    if (end < 0) this.damaged();
    const line = this.text(end - this.at);
    this.at += 1;
    return line;
  }

  private pop(): unknown {
    const value = this.stack.pop();
    return value === MARK || value === undefined ? this.damaged() : value;
  }

  private tops(count: number): unknown[] {
    const values = Array.from({ length: count }, () => this.pop());
    return values.reverse();
  }

  /** Everything since the last mark, which goes, too. */
  private marked(): unknown[] {
    const mark = this.stack.lastIndexOf(MARK);
    if (mark < 0) this.damaged();
    return this.stack.splice(mark).slice(1);
  }

  private top(): unknown {
    return this.stack.at(-1);
  }

  /** The whole file: one value. */
  run(): unknown {
    for (;;) {
      const code = this.u8();
      if (code === STOP) {
        const value = this.pop();
        return this.stack.length === 0 && this.at === this.bytes.length ? value : this.damaged();
      }
      const step = this.steps.get(code);
      if (!step) this.fail(`its description of tensors has an instruction (0x${code.toString(16)}) that none needs`);
      step();
    }
  }

  private push = (value: unknown): void => void this.stack.push(value);

  private name(name: string): Name {
    const storage = /^torch\.(\w+)$/.exec(name)?.[1];
    const known = name === DICT || name === TENSOR || name === PARAMETER;
    if (known || (storage !== undefined && Object.hasOwn(STORAGES, storage))) return new Name(name);
    return this.fail(
      `it asks for ${JSON.stringify(name.slice(0, 100))}, which is no part of a tensor: nothing of such a file is run. ` +
        "Where you trust it, open it in Python and save the model as safetensors",
    );
  }

  private reduced(): unknown {
    const args = this.pop();
    const callee = this.pop();
    if (!(callee instanceof Name) || !Array.isArray(args)) return this.damaged();
    if (callee.name === DICT && args.length === 0) return new Map();
    if (callee.name === PARAMETER && args[0] instanceof Pickled) return args[0];
    if (callee.name !== TENSOR) return this.damaged();
    const [storage, offset, shape, stride] = args;
    const isSizes = (list: unknown): list is number[] => Array.isArray(list) && list.every(isSize);
    if (!(storage instanceof Storage) || !isSize(offset) || !isSizes(shape) || !isSizes(stride)) return this.damaged();
    if (shape.length !== stride.length) return this.damaged();
    const { dtype, key, size } = storage;
    return new Pickled({ dtype, storage: key, storageSize: size, offset, shape: [...shape], stride: [...stride] });
  }

  private persistent(): void {
    const id = this.pop();
    const [kind, type, key, , size] = Array.isArray(id) ? id : [];
    if (kind !== "storage" || !(type instanceof Name) || typeof key !== "string" || !isSize(size)) this.damaged();
    const dtype = STORAGES[type.name.replace(/^torch\./, "")];
    if (dtype === undefined) this.damaged();
    this.push(new Storage(dtype, key, size));
  }

  private setItems(pairs: readonly unknown[]): void {
    const into = this.top();
    if (!(into instanceof Map) || pairs.length % 2 !== 0) this.damaged();
    for (let i = 0; i < pairs.length; i += 2) {
      if (into.has(pairs[i])) this.fail(`${JSON.stringify(pairs[i])} occurs twice in it`);
      into.set(pairs[i], pairs[i + 1]);
    }
  }

  private append(values: readonly unknown[]): void {
    const into = this.top();
    if (!Array.isArray(into)) this.damaged();
    for (const value of values) into.push(value);
  }

  /** Attributes of a dictionary, where PyTorch keeps versions of modules, say nothing about tensors. */
  private build(): void {
    this.pop();
    if (!(this.top() instanceof Map)) this.damaged();
  }

  private recall(index: number): void {
    if (!this.memo.has(index)) this.damaged();
    this.push(this.memo.get(index));
  }

  private remember(index: number): void {
    if (this.stack.length === 0 || this.top() === MARK) this.damaged();
    this.memo.set(index, this.top());
  }

  /** A whole number in some bytes, little-endian with a sign; none that counts here is longer than eight. */
  private long(length: number): number {
    if (length > 8) this.damaged();
    const from = this.take(length);
    let value = 0n;
    for (let i = 0; i < length; i++) value |= BigInt(this.bytes[from + i]) << BigInt(8 * i);
    return Number(BigInt.asIntN(8 * length, value));
  }

  private readonly steps: ReadonlyMap<number, () => void> = new Map<number, () => void>([
    [0x80, () => void this.u8()], // PROTO
    [0x95, () => void this.take(8)], // FRAME
    [code("("), () => this.push(MARK)],
    [code("}"), () => this.push(new Map())],
    [code("]"), () => this.push([])],
    [code(")"), () => this.push([])],
    [code("N"), () => this.push(null)],
    [0x88, () => this.push(true)],
    [0x89, () => this.push(false)],
    [code("K"), () => this.push(this.u8())],
    [code("M"), () => this.push(this.view.getUint16(this.take(2), true))],
    [code("J"), () => this.push(this.view.getInt32(this.take(4), true))],
    [0x8a, () => this.push(this.long(this.u8()))], // LONG1
    [code("G"), () => this.push(this.view.getFloat64(this.take(8), false))],
    [code("X"), () => this.push(this.text(this.u32()))],
    [0x8c, () => this.push(this.text(this.u8()))], // SHORT_BINUNICODE
    [code("t"), () => this.push(this.marked())],
    [0x85, () => this.push(this.tops(1))],
    [0x86, () => this.push(this.tops(2))],
    [0x87, () => this.push(this.tops(3))],
    [code("c"), () => this.push(this.name(`${this.line()}.${this.line()}`))],
    [
      0x93, // STACK_GLOBAL
      () => {
        const [module, name] = this.tops(2);
        this.push(this.name(`${module}.${name}`));
      },
    ],
    [code("q"), () => this.remember(this.u8())],
    [code("r"), () => this.remember(this.u32())],
    [0x94, () => this.remember(this.memo.size)], // MEMOIZE
    [code("h"), () => this.recall(this.u8())],
    [code("j"), () => this.recall(this.u32())],
    [code("Q"), () => this.persistent()],
    [code("R"), () => this.push(this.reduced())],
    [code("s"), () => this.setItems(this.tops(2))],
    [code("u"), () => this.setItems(this.marked())],
    [code("a"), () => this.append(this.tops(1))],
    [code("e"), () => this.append(this.marked())],
    [code("b"), () => this.build()],
  ]);
}

function code(letter: string): number {
  return letter.charCodeAt(0);
}

const STOP = code(".");
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
