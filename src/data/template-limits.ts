/**
 * An interpreter for chat templates that always comes to an end. Templates are downloaded, so they may be hostile: loops
 * within loops, strings that double, macros that call themselves, lists that contain themselves many times over. Values in
 * this engine are maps and lists of their own, so a template reaches no property of JavaScript; what is left to limit is
 * time and memory:
 *
 * - every step of evaluation counts, and so does every element a loop goes over;
 * - every value has a weight (its characters and elements, each as often as it would be written), which is bounded;
 * - everything written or made by operators, filters and calls adds up, and the sum is bounded;
 * - operations whose result is a product of two sizes (replace, join, indent, range) are worked out before they run;
 * - nesting is bounded, and as a last resort so is the time by the clock.
 *
 * It builds on methods of the engine that are no part of its interface: the engine's version is pinned in package.json.
 */
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";

type Program = ReturnType<typeof parse>;
/** A value or node of the engine; its classes are not exported. */
interface Value {
  type: string;
  value: unknown;
}
interface Node {
  type: string;
  [part: string]: unknown;
}

/** Evaluation methods of the engine, as far as they are called or replaced here. */
interface Engine {
  run(program: Program): Value;
  evaluate(node: Node | undefined, environment: Environment): Value;
  evaluateBlock(nodes: Node[], environment: Environment): Value;
  evaluateArguments(args: Node[], environment: Environment): [Value[], Map<string, Value>];
  evaluateCallExpression(node: Node, environment: Environment): Value;
  applyFilter(operand: Value, filter: Node, environment: Environment): Value;
}
const Base = Interpreter as unknown as new (environment: Environment) => Engine;

const LONGEST_TEMPLATE = 128 * 1024;
const LONGEST_GAP = 2000;
/** Besides as many as the conversation weighs. */
const STEPS = 500_000;
const DEPTH = 400;
/** What one turn of a loop costs the engine, in steps. */
const TURN = 8;
const SECONDS = 5;
/** Weight that every value may have, in characters, besides what the conversation itself weighs. */
const ROOM = 1_000_000;
/** All values together, in multiples of that. */
const ALLOCATIONS = 64;

/** A template went over a limit or did what no chat template does. */
export class TemplateLimit extends Error {}

/** Marks of a `{% generation %}` block in the rendered text; also the test of the `if` that stands for the block. */
export interface Marks {
  start: string;
  end: string;
}

/** A block that is a `{% generation %}` block, in terms the engine knows: with the white space rules of any block. */
const GENERATION = "\u0000generation";

/** @throws Error with the engine's message when it is no template */
export function parseTemplate(text: string): { program: Program; generation: boolean } {
  if (text.length > LONGEST_TEMPLATE) throw new TemplateLimit(`a template of ${text.length} characters is too long`);
  if (new RegExp(`\\s{${LONGEST_GAP}}`).test(text)) throw new TemplateLimit("it has too much white space in a row");
  let generation = false;
  // Jinja knows one kind of line end.
  const rewritten = text
    .replace(/\r\n?/g, "\n")
    .replace(/\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}/g, (_, left, end, right) => {
      generation = true;
      return `{%${left} ${end ? "endif" : `if "${GENERATION}"`} ${right}%}`;
    });
  const tokens = tokenize(rewritten, { lstrip_blocks: true, trim_blocks: true });
  return { program: parse(tokens), generation };
}

/** Renders a parsed template within the limits. `variables` are plain data. */
export function renderWithin(program: Program, variables: Record<string, unknown>, marks?: Marks): string {
  const environment = new Environment();
  const room = ROOM + 4 * JSON.stringify(variables).length;
  const constants = { true: true, True: true, false: false, False: false, none: null, None: null };
  const functions = { raise_exception: raise, strftime_now: strftime, range: (...n: unknown[]) => range(n, room) };
  for (const [name, value] of Object.entries({ ...constants, ...functions })) environment.set(name, value);
  for (const [name, value] of Object.entries(variables)) {
    if (environment.variables.has(name)) environment.variables.delete(name);
    environment.set(name, value);
  }
  const rendered = new BoundedInterpreter(environment, room, marks).run(program);
  return String(rendered.value);
}

class BoundedInterpreter extends Base {
  private readonly room: number;
  private readonly marks: Marks | undefined;
  private readonly weights = new WeakMap<Value, number>();
  private readonly deadline = performance.now() + 1000 * SECONDS;
  private steps = 0;
  private looks = 0;
  private depth = 0;
  private made = 0;

  constructor(environment: Environment, room: number, marks?: Marks) {
    super(environment);
    this.room = room;
    this.marks = marks;
  }

  override evaluate(node: Node | undefined, environment: Environment): Value {
    if (node?.type === "Given") return node.given as Value;
    this.spend(1);
    if (++this.depth > DEPTH) throw new TemplateLimit("it is nested too deeply, or a macro calls itself without end");
    const result = this.evaluateNode(node, environment);
    this.depth--;
    const weight = this.weigh(result);
    if (weight > this.room) throw new TemplateLimit(`it makes a value of more than ${this.room} characters`);
    if (node && MAKERS.has(node.type)) this.make(weight);
    return result;
  }

  private evaluateNode(node: Node | undefined, environment: Environment): Value {
    switch (node?.type) {
      case "For":
        return super.evaluate(this.withIterable(node, environment), environment);
      case "BinaryExpression": {
        const operator = (node.operator as { value: string }).value;
        if (operator === "and" || operator === "or") break;
        const left = this.evaluate(node.left as Node, environment);
        const right = this.evaluate(node.right as Node, environment);
        this.spend((this.weigh(left) + this.weigh(right)) / 64);
        if (operator.endsWith("in")) this.search(left, right);
        return super.evaluate({ ...node, left: given(left), right: given(right) }, environment);
      }
      case "MemberExpression": {
        const member = super.evaluate(node, environment);
        if (member.type === "FunctionValue" && !node.called) throw new TemplateLimit("a method must be called at once");
        return member;
      }
      case "Set": {
        const done = super.evaluate(node, environment);
        const assignee = node.assignee as Node;
        // A namespace is the one thing that changes, so it is weighed anew.
        if (assignee.type === "MemberExpression") this.weigh(super.evaluate(assignee.object as Node, environment));
        return done;
      }
      case "FilterStatement": {
        const block = this.evaluateBlock(node.body as Node[], environment);
        return this.applyFilter(block, node.filter as Node, environment);
      }
      case "If": {
        const test = node.test as Node;
        if (test.type !== "StringLiteral" || test.value !== GENERATION) break;
        const block = this.evaluateBlock(node.body as Node[], environment);
        if (this.marks) block.value = this.marks.start + (block.value as string) + this.marks.end;
        return block;
      }
    }
    return super.evaluate(node, environment);
  }

  override evaluateBlock(nodes: Node[], environment: Environment): Value {
    const block = super.evaluateBlock(nodes, environment);
    this.make((block.value as string).length);
    return block;
  }

  override evaluateCallExpression(node: Node, environment: Environment): Value {
    const callee = node.callee as Node;
    if (callee.type !== "MemberExpression") return super.evaluateCallExpression(node, environment);
    const object = this.evaluate(callee.object as Node, environment);
    const property = callee.computed ? given(this.evaluate(callee.property as Node, environment)) : callee.property;
    const name = callee.computed ? (property as { given: Value }).given.value : (property as { value: unknown }).value;
    const [args, named] = this.evaluateArguments(node.args as Node[], environment);
    this.spend([object, ...args, ...named.values()].reduce((sum, value) => sum + this.weigh(value), 0) / 64);
    this.checkProduct(String(name), object, args, named);
    const known = { ...callee, object: given(object), property, called: true };
    return super.evaluateCallExpression({ ...node, callee: known, args: givenArguments(args, named) }, environment);
  }

  override applyFilter(operand: Value, filter: Node, environment: Environment): Value {
    this.spend(this.weigh(operand) / 64);
    const name = (filter.type === "CallExpression" ? filter.callee : filter) as { value: string };
    const literal = name.value === "selectattr" || name.value === "rejectattr"; // these want literals as they are
    if (filter.type !== "CallExpression" || literal) return super.applyFilter(operand, filter, environment);
    const [args, named] = this.evaluateArguments(filter.args as Node[], environment);
    this.checkProduct(name.value, operand, args, named);
    return super.applyFilter(operand, { ...filter, args: givenArguments(args, named) }, environment);
  }

  /** The loop, with what it goes over evaluated and counted. */
  private withIterable(node: Node, environment: Environment): Node {
    const iterable = node.iterable as Node;
    const select = iterable.type === "SelectExpression";
    const value = this.evaluate((select ? iterable.lhs : iterable) as Node, environment);
    const { value: inner } = value as { value: { length?: number; size?: number } };
    this.spend(TURN * (inner?.length ?? inner?.size ?? 0));
    return { ...node, iterable: select ? { ...iterable, lhs: given(value) } : given(value) };
  }

  private checkProduct(name: string, operand: Value, args: Value[], named: Map<string, Value>): void {
    const text = (value: Value | undefined) => (value?.type === "StringValue" ? (value.value as string) : "");
    if (name === "replace") {
      const [old, fresh] = [text(args[0]), text(args[1])];
      this.search(args[0] ?? operand, operand);
      const found = old === "" ? text(operand).length + 1 : text(operand).split(old).length - 1;
      this.fits(text(operand).length + found * fresh.length);
    } else if (name === "join") {
      const separator = text(args[0] ?? named.get("separator") ?? named.get("d"));
      this.fits(this.weigh(operand) * (1 + separator.length));
    } else if (name === "indent") {
      const width = Number((args[0] ?? named.get("width"))?.value ?? 4);
      this.fits(text(operand).length + text(operand).split("\n").length * Math.abs(width));
    } else if (name === "split") {
      this.search(args[0] ?? operand, operand);
    } else if (name === "tojson") {
      if (Number(named.get("indent")?.value ?? 0) > 32) throw new TemplateLimit("tojson indents by more than 32");
      this.fits(this.weigh(operand) * (1 + [...named.values()].reduce((sum, value) => sum + this.weigh(value), 0)));
    } else if (name === "sort" || name === "map") {
      for (const value of [...args, ...named.values()])
        if (text(value).length > 1000) this.fits(Number.POSITIVE_INFINITY);
    }
  }

  /** Looking for a long text in a long text can take as long as both lengths multiplied. */
  private search(needle: Value, hay: Value): void {
    if (needle.type !== "StringValue" || hay.type !== "StringValue") return;
    if ((needle.value as string).length * (hay.value as string).length > 1e10) this.fits(Number.POSITIVE_INFINITY);
  }

  private fits(size: number): void {
    if (!(size <= 16 * this.room)) throw new TemplateLimit(`it makes a value of more than ${this.room} characters`);
  }

  private spend(steps: number): void {
    this.steps += steps;
    const most = STEPS + this.room - ROOM;
    if (this.steps > most) throw new TemplateLimit(`it does not end within ${most} steps`);
    if ((++this.looks & 255) === 0 && performance.now() > this.deadline) {
      throw new TemplateLimit(`it does not end within ${SECONDS} seconds`);
    }
  }

  private make(size: number): void {
    this.made += size;
    if (this.made > ALLOCATIONS * this.room) throw new TemplateLimit("it makes more text than fits in memory");
  }

  /** Characters and elements of a value, each as often as it would be written. */
  private weigh(value: Value): number {
    if (value.type === "StringValue") return (value.value as string).length;
    const children = childrenOf(value);
    if (!children) return 1;
    const known = this.weights.get(value);
    if (known !== undefined) return known;
    let weight = 1;
    let count = 0;
    for (const child of children) {
      if (typeof child === "string") weight += child.length;
      else if (child.type === "NamespaceValue" || child.type === "FunctionValue") {
        throw new TemplateLimit("it puts a namespace or a function into a list or a mapping");
      } else weight += this.weigh(child);
      count++;
    }
    this.spend(count);
    this.make(8 * count);
    if (weight > this.room) throw new TemplateLimit(`it makes a value of more than ${this.room} characters`);
    if (value.type !== "NamespaceValue") this.weights.set(value, weight);
    return weight;
  }
}

/** Nodes that make a value, where others only name one. */
const MAKERS = new Set([
  "BinaryExpression",
  "CallExpression",
  "FilterExpression",
  "MemberExpression",
  "FilterStatement",
]);

function childrenOf(value: Value): Iterable<string | Value> | null {
  if (Array.isArray(value.value)) return value.value as Value[];
  return value.value instanceof Map ? ([...value.value].flat() as (string | Value)[]) : null;
}

/** A node whose value is known already. */
const given = (value: Value): Node => ({ type: "Given", given: value });

function givenArguments(args: Value[], named: Map<string, Value>): Node[] {
  const keywords = [...named].map(([key, value]) => ({
    type: "KeywordArgumentExpression",
    key: { type: "Identifier", value: key },
    value: given(value),
  }));
  return [...args.map(given), ...keywords];
}

/** What a template says about a conversation it does not take. */
export class TemplateException extends Error {}

function raise(message: unknown): never {
  throw new TemplateException(typeof message === "string" ? message.slice(0, 500) : "it raised an exception");
}

function range(numbers: unknown[], most: number): number[] {
  const whole = numbers.filter((n) => typeof n === "number");
  const [start, stop, step] = whole.length === 1 ? [0, whole[0], 1] : [whole[0], whole[1], whole[2] ?? 1];
  if (whole.length === 0 || whole.length > 3 || !whole.every(Number.isSafeInteger) || step === 0) {
    throw new TemplateException("range() needs one to three whole numbers");
  }
  const count = Math.max(0, Math.ceil((stop - start) / step));
  if (count > Math.min(most, 100_000)) throw new TemplateLimit(`range() of ${count} numbers is too long`);
  return Array.from({ length: count }, (_, i) => start + i * step);
}

const MONTHS = "January February March April May June July August September October November December".split(" ");
const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

/** Today as Python's strftime writes it in English. */
function strftime(format: unknown): string {
  const now = new Date();
  const two = (n: number) => String(n).padStart(2, "0");
  const parts: Record<string, string> = {
    Y: String(now.getFullYear()),
    y: two(now.getFullYear() % 100),
    m: two(now.getMonth() + 1),
    d: two(now.getDate()),
    H: two(now.getHours()),
    M: two(now.getMinutes()),
    S: two(now.getSeconds()),
    B: MONTHS[now.getMonth()],
    b: MONTHS[now.getMonth()].slice(0, 3),
    A: DAYS[now.getDay()],
    a: DAYS[now.getDay()].slice(0, 3),
    "%": "%",
  };
  return String(format).replace(/%([YymdHMSBbAa%])/g, (_, letter: string) => parts[letter]);
}
