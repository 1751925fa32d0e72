/**
 * Whether two mathematical expressions are the same. LaTeX is read and computed in one go, at a few points for its unknowns, and nothing
 * is simplified or expanded: responses are untrusted, and no expression may take longer than its length. (A library for this took
 * 0.9 s for twelve open brackets, and twice as long for each further one.)
 */
import { plain } from "./answers.ts";

/** A longer answer is none. */
const LONGEST = 400;
const DEEPEST = 40;
/** Values that unknowns take: positive, so that roots and logarithms are real. */
const POINTS = [0.5772, 1.3247, 2.2361, 0.8862];

/** LaTeX without what changes nothing of its meaning: delimiters, spacing, display sizes, units, thousands' commas. */
export function bare(latex: string): string {
  let text = latex.trim();
  text = text.replace(/^\$+|\$+$/g, "").replace(/^\\[([]|\\[)\]]$/g, "");
  text = text.replace(/\\(?:left|right|big|Big|bigg|Bigg|displaystyle|limits)(?![a-zA-Z])/g, "");
  text = text.replace(/\\[dtc]frac(?![a-zA-Z])/g, "\\frac").replace(/\\(?:[,;:!]|quad|qquad|ldots|dots)|~/g, " ");
  text = text.replace(/\\(?:mathrm|text|textbf|mathbf|mbox|operatorname)\{([^{}]*)\}/g, " $1 ");
  text = text.replace(/\^\{?\\circ\}?|\\degree|°|\\%|%|\\\$|\$|€|£/g, "");
  text = text.replace(/(?<!\d)(\d{1,3}(?:,\d{3})+)(?!\d)/g, (number) => number.replaceAll(",", ""));
  text = text.replace(/(?<!\d)(\d{1,3}(?:\{,\}\d{3})+)(?!\d)/g, (number) => number.replaceAll("{,}", ""));
  text = text.replace(/−/g, "-").replace(/×/g, "\\times ").replace(/÷/g, "\\div ").replace(/π/g, "\\pi ");
  text = text.replace(/[.。]\s*$/, "").trim();
  // "x = 3" and "f(x) = 3" answer 3.
  const named = /^\s*[a-zA-Z](?:_\{?\w+\}?)?(?:\([a-z, ]*\))?\s*=\s*([^=]+)$/.exec(text);
  text = named ? named[1].trim() : text;
  // "12 apples", "3.5 cm"
  return text.replace(/^([-+]?[\d.]+(?:\/\d+)?)\s+[a-zA-Z][a-zA-Z .]*(?:\^\{?\d\}?)?$/, "$1");
}

/** A number; several in brackets of some kind, where a set's order does not count. */
type Value = number | { kind: string; items: Value[] };

/** What is no expression. */
class NoExpression extends Error {}

const FUNCTIONS: Record<string, (x: number) => number> = {
  sin: Math.sin,
  cos: Math.cos,
  tan: Math.tan,
  cot: (x) => 1 / Math.tan(x),
  sec: (x) => 1 / Math.cos(x),
  csc: (x) => 1 / Math.sin(x),
  arcsin: Math.asin,
  arccos: Math.acos,
  arctan: Math.atan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  tanh: Math.tanh,
  exp: Math.exp,
  ln: Math.log,
};
const GREEK = /^(alpha|beta|gamma|delta|epsilon|theta|lambda|mu|nu|rho|sigma|tau|phi|varphi|omega|ell)$/;
const TIMES = new Set(["*", "\\cdot", "\\times", "\\ast"]);
const OVER = new Set(["/", "\\div", ":"]);
/** Brackets that hold something, with those that close them: intervals may mix them. */
const CLOSES: Record<string, readonly string[]> = { "(": [")", "]"], "[": ["]", ")"], "{": ["}"], "\\{": ["\\}"] };

function factorial(n: number): number {
  if (!(Number.isInteger(n) && n >= 0 && n <= 170)) throw new NoExpression();
  let product = 1;
  for (let i = 2; i <= n; i++) product *= i;
  return product;
}

function choose(n: number, k: number): number {
  if (!(Number.isInteger(k) && k >= 0 && k <= 1000)) throw new NoExpression();
  let product = 1;
  for (let i = 1; i <= k; i++) product = (product * (n - k + i)) / i;
  return product;
}

/** Reads LaTeX from left to right, and computes it with unknowns at a point. */
class Reader {
  private readonly tokens: string[];
  private readonly point: number;
  private at = 0;
  private depth = 0;

  constructor(latex: string, point: number) {
    const tokens = latex.match(/\\[a-zA-Z]+|\\.|\d+(?:\.\d*)?|\.\d+|\*\*|\S/g) ?? [];
    this.tokens = tokens.map((token) => (token === "**" ? "^" : token));
    this.point = point;
  }

  /** All of it. */
  read(): Value {
    const items = this.list();
    if (this.at < this.tokens.length) throw new NoExpression();
    return items.length === 1 ? items[0] : { kind: "{", items };
  }

  private get next(): string | undefined {
    return this.tokens[this.at];
  }

  private take(...tokens: readonly string[]): string | null {
    const { next } = this;
    if (next === undefined || !tokens.includes(next)) return null;
    this.at++;
    return next;
  }

  private need(token: string): void {
    if (!this.take(token)) throw new NoExpression();
  }

  private list(): Value[] {
    const items = [this.sum()];
    while (this.take(",", ";")) items.push(this.sum());
    return items;
  }

  private sum(): Value {
    if (++this.depth > DEEPEST) throw new NoExpression();
    let value = this.product();
    for (;;) {
      const sign = this.take("+", "-", "\\pm");
      if (!sign) break;
      const other = numberOf(this.product());
      const own = numberOf(value);
      if (sign === "\\pm") value = { kind: "{", items: [own + other, own - other] };
      else value = sign === "+" ? own + other : own - other;
    }
    this.depth--;
    return value;
  }

  private product(): Value {
    let value = this.signed();
    for (;;) {
      const token = this.next ?? "";
      if (TIMES.has(token)) {
        this.at++;
        value = numberOf(value) * numberOf(this.signed());
      } else if (OVER.has(token)) {
        this.at++;
        value = numberOf(value) / numberOf(this.signed());
      } else if (this.begins(token)) value = numberOf(value) * numberOf(this.power());
      else return value;
    }
  }

  /** Whether a factor begins that stands beside the one before. */
  private begins(token: string): boolean {
    if (/^[a-zA-Z({]$/.test(token)) return true;
    const name = token.startsWith("\\") ? token.slice(1) : "";
    return name in FUNCTIONS || GREEK.test(name) || /^(frac|sqrt|binom|pi|log|infty|lfloor|lceil)$/.test(name);
  }

  private signed(): Value {
    let sign = 1;
    let signs = false;
    for (let token = this.take("+", "-"); token; token = this.take("+", "-")) {
      signs = true;
      if (token === "-") sign = -sign;
    }
    const value = this.power();
    return signs ? sign * numberOf(value) : value;
  }

  private power(): Value {
    const value = this.postfix();
    if (!this.take("^")) return value;
    return numberOf(value) ** this.exponent();
  }

  private exponent(): number {
    if (++this.depth > DEEPEST) throw new NoExpression();
    const sign = this.take("-") ? -1 : 1;
    const base = numberOf(this.atom());
    const value = this.take("^") ? base ** this.exponent() : base;
    this.depth--;
    return sign * value;
  }

  private postfix(): Value {
    const { at } = this;
    let value = this.atom();
    // A whole number before a fraction of numbers is a mixed one.
    const whole = this.at === at + 1 && /^\d+$/.test(this.tokens[at]);
    const fraction = whole && /^\\frac (\{ )?\d/.test(this.tokens.slice(this.at, this.at + 3).join(" "));
    if (fraction) {
      const before = this.at;
      const part = numberOf(this.atom());
      if (this.tokens.slice(before + 1, this.at).every((token) => /^([{}]|\d+)$/.test(token)))
        value = numberOf(value) + part;
      else value = numberOf(value) * part;
    }
    while (this.take("!")) value = factorial(numberOf(value));
    return value;
  }

  private atom(): Value {
    const { next } = this;
    if (next === undefined) throw new NoExpression();
    this.at++;
    if (/^[\d.]/.test(next)) return Number(next);
    if (/^[a-zA-Z]$/.test(next)) return next === "e" ? Math.E : this.unknown(next);
    if (next in CLOSES) return this.bracketed(next);
    if (next === "|") {
      const value = Math.abs(numberOf(this.sum()));
      this.need("|");
      return value;
    }
    if (!next.startsWith("\\")) throw new NoExpression();
    return this.command(next.slice(1));
  }

  private bracketed(open: string): Value {
    const items = this.list();
    const close = this.take(...CLOSES[open]);
    if (!close) throw new NoExpression();
    const mixed = open + close;
    if (items.length === 1 && (mixed === "()" || mixed === "[]" || mixed === "{}")) return items[0];
    return { kind: open === "\\{" || open === "{" ? "{" : mixed, items };
  }

  private command(name: string): number {
    if (name === "pi") return Math.PI;
    if (name === "infty") return Number.POSITIVE_INFINITY;
    if (GREEK.test(name)) return this.unknown(name);
    if (name === "frac") {
      const above = this.argument();
      return above / this.argument();
    }
    if (name === "binom") {
      const n = this.argument();
      return choose(n, this.argument());
    }
    if (name === "sqrt") {
      let degree = 2;
      if (this.take("[")) {
        degree = numberOf(this.sum());
        this.need("]");
      }
      const value = this.argument();
      return value < 0 && degree % 2 === 1 ? -((-value) ** (1 / degree)) : value ** (1 / degree);
    }
    if (name === "lfloor" || name === "lceil") {
      const value = numberOf(this.sum());
      this.need(name === "lfloor" ? "\\rfloor" : "\\rceil");
      return name === "lfloor" ? Math.floor(value) : Math.ceil(value);
    }
    if (name === "log") {
      const base = this.take("_") ? this.argument() : 10;
      return Math.log(this.operand()) / Math.log(base);
    }
    if (!Object.hasOwn(FUNCTIONS, name)) throw new NoExpression();
    const exponent = this.take("^") ? this.exponent() : 1;
    const value = this.operand();
    return exponent === -1 ? inverse(name)(value) : FUNCTIONS[name](value) ** exponent;
  }

  /** What a command takes: braces, or the first digit or letter. */
  private argument(): number {
    const { next } = this;
    if (next === undefined) throw new NoExpression();
    if (/^\d\d+$/.test(next)) {
      // \\frac12 is a half.
      this.tokens.splice(this.at, 1, next[0], next.slice(1));
    }
    return numberOf(this.atom());
  }

  /** What a function takes: brackets, or the factors that follow. */
  private operand(): number {
    if (++this.depth > DEEPEST) throw new NoExpression();
    let value = numberOf(this.power());
    if (!/^[)}]$/.test(this.tokens[this.at - 1])) {
      while (/^[a-z]$/.test(this.next ?? "")) value *= numberOf(this.power());
    }
    this.depth--;
    return value;
  }

  private unknown(name: string): number {
    let full = name;
    if (this.take("_")) {
      const braced = this.take("{");
      while (/^[a-zA-Z0-9]+$/.test(this.next ?? "")) {
        full += `_${this.next}`;
        this.at++;
        if (!braced) break;
      }
      if (braced) this.need("}");
    }
    let shift = 0;
    for (const letter of full) shift = (shift * 31 + (letter.codePointAt(0) ?? 0)) % 97;
    return POINTS[this.point] + shift / 41;
  }
}

const inverse = (name: string): ((x: number) => number) => {
  if (!Object.hasOwn(FUNCTIONS, `arc${name}`)) throw new NoExpression();
  return FUNCTIONS[`arc${name}`];
};

function numberOf(value: Value): number {
  if (typeof value !== "number") throw new NoExpression();
  return value;
}

/** Six decimals count, as in math-verify: 0.333333 is a third. Whole numbers are the same or not. */
function same(a: Value, b: Value): boolean {
  if (typeof a === "number" || typeof b === "number") {
    if (typeof a !== "number" || typeof b !== "number") return false;
    if (a === b || !Number.isFinite(a) || !Number.isFinite(b)) return a === b;
    if (Number.isInteger(a) && Number.isInteger(b)) return false;
    return Math.abs(a - b) <= Math.max(5e-7, 1e-11 * Math.abs(a));
  }
  if (a.items.length !== b.items.length || a.kind !== b.kind) return false;
  if (a.kind !== "{") return a.items.every((one, i) => same(one, b.items[i]));
  const left = [...b.items];
  return a.items.every((one) => {
    const at = left.findIndex((other) => same(one, other));
    if (at >= 0) left.splice(at, 1);
    return at >= 0;
  });
}

/** The value of an expression with its unknowns at a point; null for what is none. */
function computed(latex: string, point: number): Value | null {
  if (latex === "" || latex.length > LONGEST) return null;
  try {
    return new Reader(latex, point).read();
  } catch (error) {
    if (error instanceof NoExpression) return null;
    throw error;
  }
}

/**
 * Whether an answer means what the solution says. Texts that are no expressions are the same where their letters are.
 * @param answer LaTeX, or a plain number or expression
 */
export function sameMaths(answer: string, solution: string): boolean {
  if (answer.length > LONGEST || solution.length > LONGEST) return false;
  const [ours, theirs] = [bare(answer), bare(solution)];
  if (plain(ours) === plain(theirs)) return theirs !== "";
  return POINTS.every((_, point) => {
    const [a, b] = [computed(ours, point), computed(theirs, point)];
    return a !== null && b !== null && same(a, b);
  });
}
