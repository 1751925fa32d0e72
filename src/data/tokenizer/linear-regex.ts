/**
 * Regular expressions in time that grows with the text alone. What a backtracking matcher tries, and in which order, is
 * tried here too, but never twice at the same place: where a part of the pattern failed from a place of the text once, it
 * fails again. So the matches are JavaScript's, without its exponential or quadratic time. Back references cannot be had
 * this way and are refused.
 */
import { UserError } from "../../runtime/errors.ts";

/** A program: each step goes on to another one, or to one of two, the first of which is tried first. */
type Step =
  | { kind: "char"; test: (code: number) => boolean; next: number }
  | { kind: "split"; first: number; second: number }
  | { kind: "start" | "end"; next: number }
  | { kind: "look"; body: number; behind: boolean; negative: boolean; next: number }
  | { kind: "match" };

/** Steps of a program; a hostile pattern with counts within counts would have any number. */
const MOST_STEPS = 4_000;
/** Bytes of memory for the places that were tried. */
const MOST_MEMORY = 2 ** 29;
const DEEPEST = 200;

export class LinearRegex {
  private readonly steps: Step[] = [];
  private readonly entry: number;

  /** @throws Error for what is not supported */
  constructor(source: string) {
    const node = new Parser(source).parse();
    this.entry = this.emit(node, this.add({ kind: "match" }), false);
  }

  /** The matches in one text. */
  over(text: string): { find(from: number): readonly [number, number] | null } {
    return new Run(text, this.steps, this.entry);
  }

  private add(step: Step): number {
    if (this.steps.length >= MOST_STEPS) throw new Error("it is too large");
    return this.steps.push(step) - 1;
  }

  /** The first step of a part that goes on to `next`; `back` for parts that are read towards the text's start. */
  private emit(node: Node, next: number, back: boolean): number {
    switch (node.kind) {
      case "char":
        return this.add({ kind: "char", test: node.test, next });
      case "start":
      case "end":
        return this.add({ kind: node.kind, next });
      case "look": {
        const body = this.emit(node.body, this.add({ kind: "match" }), node.behind);
        return this.add({ kind: "look", body, behind: node.behind, negative: node.negative, next });
      }
      case "all": {
        const parts = back ? node.parts : node.parts.toReversed();
        return parts.reduce((to, part) => this.emit(part, to, back), next);
      }
      case "any": {
        const entries = node.parts.map((part) => this.emit(part, next, back));
        return entries.reduceRight((rest, entry) => this.add({ kind: "split", first: entry, second: rest }));
      }
      case "repeat":
        return this.repeat(node, next, back);
    }
  }

  private repeat({ body, least, most, lazy }: Extract<Node, { kind: "repeat" }>, next: number, back: boolean): number {
    // Matchers differ in what an optional repetition does that takes nothing.
    if (most > least && canBeNothing(body)) throw new Error("it repeats what can be nothing");
    const choice = (inside: number, outside: number): Step =>
      lazy ? { kind: "split", first: outside, second: inside } : { kind: "split", first: inside, second: outside };
    let entry = next;
    if (most === Number.POSITIVE_INFINITY) {
      const loop = this.add({ kind: "match" });
      this.steps[loop] = choice(this.emit(body, loop, back), next);
      entry = loop;
    } else {
      for (let i = least; i < most; i++) entry = this.add(choice(this.emit(body, entry, back), next));
    }
    for (let i = 0; i < least; i++) entry = this.emit(body, entry, back);
    return entry;
  }
}

/** A search through one text. */
class Run {
  private readonly text: string;
  private readonly steps: readonly Step[];
  private readonly entry: number;
  /** A bit for each step and place: it was tried, and did not lead to a match. */
  private readonly failed: Uint8Array;
  /** Likewise, in a look ahead or behind: it was tried and did. Outside of them where a match ends counts too. */
  private readonly found: Uint8Array | null;
  private readonly width: number;
  /** Where to go on after a failure: the step, the place, and how much of the way is still right then. */
  private choices = new Int32Array(96);

  constructor(text: string, steps: readonly Step[], entry: number) {
    this.text = text;
    this.steps = steps;
    this.entry = entry;
    this.width = text.length + 1;
    const size = Math.ceil((steps.length * this.width) / 8);
    if (size > MOST_MEMORY) {
      throw new UserError(`a text of ${text.length} characters is too long for the tokenizer's own pattern: cut it`);
    }
    this.failed = new Uint8Array(size);
    this.found = steps.some(({ kind }) => kind === "look") ? new Uint8Array(size) : null;
  }

  find(from: number): readonly [number, number] | null {
    const { text } = this;
    for (let start = from; start <= text.length; start++) {
      // Not between the two halves of a character.
      if (start > 0 && isLow(text.charCodeAt(start)) && isHigh(text.charCodeAt(start - 1))) continue;
      const end = this.match(this.entry, start, 1, null, 0);
      if (end >= 0) return [start, end];
    }
    return null;
  }

  /**
   * Where a match that begins here ends, or -1.
   * @param known in looks: what led to a match before
   * @param base of the choices that belong to this match
   */
  private match(entry: number, start: number, direction: 1 | -1, known: Uint8Array | null, base: number): number {
    const { text, steps, failed, width } = this;
    const way: number[] = [];
    let top = base;
    let step = entry;
    let at = start;
    for (;;) {
      const key = step * width + at;
      const mask = 1 << (key & 7);
      let goesOn = (failed[key >>> 3] & mask) === 0;
      if (goesOn) {
        const now = steps[step];
        if (now.kind === "match" || (known && known[key >>> 3] & mask)) {
          for (const passed of way) {
            failed[passed >>> 3] &= ~(1 << (passed & 7));
            if (known) known[passed >>> 3] |= 1 << (passed & 7);
          }
          return at;
        }
        failed[key >>> 3] |= mask;
        way.push(key);
        if (now.kind === "char") {
          const code = direction === 1 ? text.codePointAt(at) : codeBefore(text, at);
          goesOn = code !== undefined && now.test(code);
          if (goesOn) at += direction * ((code as number) > 0xffff ? 2 : 1);
          step = now.next;
        } else if (now.kind === "split") {
          if (top + 3 > this.choices.length) this.grow();
          this.choices[top++] = now.second;
          this.choices[top++] = at;
          this.choices[top++] = way.length;
          step = now.first;
        } else if (now.kind === "look") {
          const isThere = this.match(now.body, at, now.behind ? -1 : 1, this.found, top) >= 0;
          goesOn = isThere !== now.negative;
          step = now.next;
        } else {
          goesOn = at === (now.kind === "start" ? 0 : text.length);
          step = now.next;
        }
      }
      if (goesOn) continue;
      if (top === base) return -1;
      way.length = this.choices[--top];
      at = this.choices[--top];
      step = this.choices[--top];
    }
  }

  private grow(): void {
    const larger = new Int32Array(2 * this.choices.length);
    larger.set(this.choices);
    this.choices = larger;
  }
}

const isHigh = (unit: number): boolean => unit >= 0xd800 && unit < 0xdc00;
const isLow = (unit: number): boolean => unit >= 0xdc00 && unit < 0xe000;

function codeBefore(text: string, at: number): number | undefined {
  if (at === 0) return undefined;
  const unit = text.charCodeAt(at - 1);
  return isLow(unit) && at > 1 && isHigh(text.charCodeAt(at - 2)) ? text.codePointAt(at - 2) : unit;
}

type Node =
  | { kind: "char"; test: (code: number) => boolean }
  | { kind: "start" | "end" }
  | { kind: "all" | "any"; parts: Node[] }
  | { kind: "look"; body: Node; behind: boolean; negative: boolean }
  | { kind: "repeat"; body: Node; least: number; most: number; lazy: boolean };

/** Whether a part can match without a character. Repeated, it would depend on more than the step and the place. */
function canBeNothing(node: Node): boolean {
  if (node.kind === "all") return node.parts.every(canBeNothing);
  if (node.kind === "any") return node.parts.some(canBeNothing);
  if (node.kind === "repeat") return node.least === 0 || canBeNothing(node.body);
  return node.kind !== "char";
}

/** Reads a pattern that JavaScript accepts with the flag u. */
class Parser {
  private readonly source: string;
  private at = 0;
  private depth = 0;

  constructor(source: string) {
    this.source = source;
  }

  parse(): Node {
    const node = this.alternatives();
    if (this.at < this.source.length) throw new Error(`it has "${this.source[this.at]}" at ${this.at}`);
    return node;
  }

  private alternatives(): Node {
    if (++this.depth > DEEPEST) throw new Error("it is nested too deep");
    const parts = [this.sequence()];
    while (this.take("|")) parts.push(this.sequence());
    this.depth--;
    return parts.length === 1 ? parts[0] : { kind: "any", parts };
  }

  private sequence(): Node {
    const parts: Node[] = [];
    while (this.at < this.source.length && !"|)".includes(this.source[this.at])) parts.push(this.repeated());
    return { kind: "all", parts };
  }

  private repeated(): Node {
    const body = this.atom();
    const found = this.match(/[*+?]|\{(\d+)(,?)(\d*)\}/y);
    if (!found) return body;
    const lazy = this.take("?");
    const [sign, low, comma, high] = found;
    const least = low !== undefined ? Number(low) : sign === "+" ? 1 : 0;
    const open = sign === "*" || sign === "+" || (comma === "," && high === "");
    const most = open ? Number.POSITIVE_INFINITY : low === undefined ? 1 : high === "" ? least : Number(high);
    return { kind: "repeat", body, least, most, lazy };
  }

  private atom(): Node {
    const group = this.match(/\((?:\?:|\?<?[=!]|\?<[\p{L}_$][\p{L}\p{N}_$]*>)?/uy);
    if (group) {
      const body = this.alternatives();
      if (!this.take(")")) throw new Error("a group of it does not end");
      if (!/^\(\?<?[=!]$/.test(group[0])) return body;
      return { kind: "look", body, behind: group[0].includes("<"), negative: group[0].endsWith("!") };
    }
    if (this.take("^")) return { kind: "start" };
    if (this.take("$")) return { kind: "end" };
    if (this.match(/\\(?:[1-9]|k<)/y)) throw new Error("it has a back reference");
    if (this.match(/\\[bB]/y)) throw new Error("it has a word boundary of JavaScript's");
    const piece = this.match(
      /\[(?:\\[\s\S]|[^\]\\])*\]|\\[pP]\{[^}]*\}|\\u\{[0-9A-Fa-f]+\}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\c[A-Za-z]|\\[\s\S]|[^()[\]{}*+?|\\]/uy,
    );
    if (!piece) throw new Error(`it has "${this.source[this.at] ?? ""}" at ${this.at}`);
    return { kind: "char", test: tester(piece[0]) };
  }

  private take(text: string): boolean {
    const is = this.source.startsWith(text, this.at);
    if (is) this.at += text.length;
    return is;
  }

  private match(regex: RegExp): RegExpExecArray | null {
    regex.lastIndex = this.at;
    const found = regex.exec(this.source);
    if (found) this.at += found[0].length;
    return found;
  }
}

/** Whether a character is one of a class, remembered for each. */
function tester(piece: string): (code: number) => boolean {
  const regex = new RegExp(`^${piece}$`, "u");
  const known = new Uint8Array(0x10000);
  const is = (code: number) => regex.test(String.fromCodePoint(code));
  return (code) => {
    if (code > 0xffff) return is(code);
    if (known[code] === 0) known[code] = is(code) ? 2 : 1;
    return known[code] === 2;
  };
}
