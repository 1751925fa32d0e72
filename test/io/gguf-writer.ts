/** Writes small GGUF files for tests, wrong ones too. Tensors are F32 unless told otherwise; the values are 0. */
export class GgufWriter {
  version = 3;
  private readonly pairs: { key: string; value: Uint8Array }[] = [];
  private readonly tensors: { name: string; shape: number[]; type: number; offset?: number }[] = [];

  u32(key: string, value: number): void {
    this.pair(key, 4, u32(value));
  }

  f32(key: string, value: number): void {
    this.pair(key, 6, new Uint8Array(Float32Array.of(value).buffer));
  }

  flag(key: string, value: boolean): void {
    this.pair(key, 7, Uint8Array.of(value ? 1 : 0));
  }

  text(key: string, value: string): void {
    this.pair(key, 8, string(value));
  }

  texts(key: string, values: readonly string[]): void {
    this.pair(key, 9, join([u32(8), u64(values.length), ...values.map(string)]));
  }

  numbers(key: string, values: Float32Array | Int32Array): void {
    const type = values instanceof Float32Array ? 6 : 5;
    this.pair(key, 9, join([u32(type), u64(values.length), new Uint8Array(values.buffer as ArrayBuffer)]));
  }

  /** Replaces text. */
  set(key: string, value: string): void {
    this.drop(key);
    this.text(key, value);
  }

  drop(key: string): void {
    this.pairs.splice(
      this.pairs.findIndex((pair) => pair.key === key),
      1,
    );
  }

  tensor(name: string, shape: number[], { type = 0, offset }: { type?: number; offset?: number } = {}): void {
    this.tensors.push({ name, shape, type, offset });
  }

  bytes(): Uint8Array<ArrayBuffer> {
    let data = 0;
    const infos = this.tensors.map(({ name, shape, type, offset }) => {
      const at = offset ?? data;
      data = Math.ceil((data + 4 * shape.reduce((a, b) => a * b, 1)) / 32) * 32;
      return join([string(name), u32(shape.length), ...shape.toReversed().map(u64), u32(type), u64(at)]);
    });
    const pairs = this.pairs.map(({ key, value }) => join([string(key), value]));
    const header = join([
      new TextEncoder().encode("GGUF"),
      u32(this.version),
      u64(this.tensors.length),
      u64(this.pairs.length),
      ...pairs,
      ...infos,
    ]);
    const out = new Uint8Array(Math.ceil(header.length / 32) * 32 + data);
    out.set(header);
    return out;
  }

  private pair(key: string, type: number, value: Uint8Array): void {
    this.pairs.push({ key, value: join([u32(type), value]) });
  }
}

const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: number) => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const string = (text: string) => {
  const bytes = new TextEncoder().encode(text);
  return join([u64(bytes.length), bytes]);
};

function join(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
