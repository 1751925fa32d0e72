// OpenBLAS (or whichever BLAS numpy was built with) on the CPU, for scale. Needs python3 with numpy; PYTHON names another.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export async function openBlas() {
  const python = spawn(process.env.PYTHON ?? "python3", [fileURLToPath(new URL("blas.py", import.meta.url))], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  python.on("error", () => {}); // no such program: the line below ends
  python.stdin.on("error", () => {});
  const lines = createInterface({ input: python.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error("needs python3 with numpy (PYTHON names another interpreter)");
    return JSON.parse(value);
  };
  const ask = (question) => {
    python.stdin.write(`${JSON.stringify(question)}\n`);
    return answer();
  };

  const { version } = await answer();
  return {
    name: "BLAS",
    version,
    close: () => python.stdin.end(),

    async matmul({ m, n, k, mode, a, b }) {
      // The program holds one pair of matrices, so each turn hands them over again, outside the timing.
      const folder = mkdtempSync(join(tmpdir(), "webrlhf-bench-"));
      const file = (name) => join(folder, name);
      writeFileSync(file("a"), a);
      writeFileSync(file("b"), b);
      const load = () => ask({ m, n, k, mode, a: file("a"), b: file("b"), c: file("c") });
      return {
        name: "BLAS (CPU)",
        async time(times) {
          await load();
          return (await ask({ times })).seconds;
        },
        async result() {
          await load();
          return new Float32Array(readFileSync(file("c")).buffer.slice(0));
        },
        dispose: () => rmSync(folder, { recursive: true, force: true }),
      };
    },
  };
}
