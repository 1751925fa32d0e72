/**
 * Programs in responses, run against a row's tests: by a sandbox that somebody has set up for that, never here. Two servers' protocols
 * are spoken, Piston's (`/api/v2/execute`) and SandboxFusion's (`/run_code`).
 */
import { HttpClient } from "../../io/http.ts";
import { UserError } from "../../runtime/errors.ts";

/** Protocols of sandboxes. */
export const sandboxes = ["piston", "sandbox_fusion"] as const;

/** How programs are run. */
export interface CodeOptions {
  /** The server's address, with the path that runs a program. */
  sandbox: string;
  format: (typeof sandboxes)[number];
  /** The programming language, by the server's name. */
  language: string;
  /** Seconds that a program may run for one test. */
  timeout: number;
}

/** One test: what is written to the program, and what it must answer; or lines that follow it and fail where it is wrong. */
export type CodeTest = { input: string; output: string } | { lines: string };

/** Tests of one row at most, so that no row costs without bound. */
const MOST = 100;

/** The last fenced block of a response, of this language where it says one; null without any. */
export function programIn(text: string, language: string): string | null {
  const blocks = [...text.matchAll(/```([\w+#-]*)[^\n]*\n([\s\S]*?)```/g)];
  const own = blocks.filter(([, named]) => named.toLowerCase() === language.toLowerCase());
  return (own.at(-1) ?? blocks.at(-1))?.[2] ?? null;
}

/**
 * Reads a row's tests: a list of `{input, output}` or of lines of code such as `assert f(1) == 2`; also as JSON, or in the field
 * `test_cases` of a record.
 * @throws Error that says what is no test
 */
export function testsIn(given: unknown): CodeTest[] {
  const value = typeof given === "string" ? (JSON.parse(given) as unknown) : given;
  const list = Array.isArray(value) ? value : (value as { test_cases?: unknown } | null)?.test_cases;
  if (!Array.isArray(list) || list.length === 0)
    throw new Error("tests are a list of {input, output}, or of lines of code");
  if (list.length > MOST) throw new Error(`there are ${list.length} tests, and a row may have ${MOST}`);
  return list.map((test: unknown): CodeTest => {
    if (typeof test === "string") return { lines: test };
    const { input = "", output } = (test ?? {}) as { input?: unknown; output?: unknown };
    if (typeof input === "string" && typeof output === "string") return { input, output };
    throw new Error(`${JSON.stringify(test).slice(0, 80)} is no test: it has an input and an output, both texts`);
  });
}

/** What became of a program. */
interface Ran {
  finished: boolean;
  stdout: string;
}

/** Runs programs in a sandbox. */
export class Sandbox {
  private readonly client: HttpClient;
  private readonly o: CodeOptions;

  /** @param apiKey sent as a bearer token */
  constructor(o: CodeOptions, apiKey: string | null) {
    this.o = o;
    this.client = new HttpClient(o.sandbox, { apiKey, timeoutMs: (o.timeout + 60) * 1000 });
  }

  /** The part of the tests that a program passes. Throws a UserError where the sandbox itself fails. */
  async passed(program: string, tests: readonly CodeTest[]): Promise<number> {
    let passed = 0;
    for (const test of tests) {
      const lines = "lines" in test;
      const { finished, stdout } = await this.run(
        lines ? `${program}\n${test.lines}\n` : program,
        lines ? "" : test.input,
      );
      if (finished && (lines || told(stdout) === told(test.output))) passed++;
    }
    return passed / tests.length;
  }

  private async run(code: string, stdin: string): Promise<Ran> {
    const { format, language, timeout } = this.o;
    if (format === "piston") {
      const files = [{ content: code }];
      const body = { language, version: "*", files, stdin, run_timeout: timeout * 1000 };
      const { run, compile } = await this.answer<{ run: Finished; compile?: Finished }>(body, "run");
      return { finished: run.code === 0 && (compile?.code ?? 0) === 0, stdout: run.stdout ?? "" };
    }
    const body = { code, language, stdin, run_timeout: timeout };
    const { status, message, run_result } = await this.answer<FusionAnswer>(body, "status");
    if (status === "SandboxError")
      throw new UserError(`${this.o.sandbox} could not run a program: ${message ?? status}`);
    return {
      finished: status === "Success" && run_result?.status === "Finished" && run_result.return_code === 0,
      stdout: run_result?.stdout ?? "",
    };
  }

  private async answer<T>(body: object, needed: string): Promise<T> {
    const answer = await this.client.json("POST", "", body);
    if (typeof answer === "object" && answer !== null && needed in answer) return answer as T;
    throw new UserError(`${this.o.sandbox} answered without "${needed}": does it speak ${this.o.format}?`);
  }
}

interface Finished {
  code: number | null;
  stdout?: string;
}

interface FusionAnswer {
  status: string;
  message?: string;
  run_result?: { status: string; return_code: number | null; stdout?: string } | null;
}

/** An output for comparison: spaces at the ends of lines, and empty lines at the end, do not count. */
const told = (text: string): string =>
  text
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n")
    .trimEnd();
