#!/usr/bin/env node
/**
 * Uses the package as other people's projects do, from what `npm pack` makes of it: a strict TypeScript project without
 * `skipLibCheck`, a page built by Vite, a program for Deno and one for Node, each with every entry and all of examples/.
 *
 *   node scripts/consumers.mjs          builds, packs and tries them all
 *   node scripts/consumers.mjs FOLDER   keeps the project in FOLDER
 *
 * Nothing is downloaded: the package's dependencies, and no others, are linked from this repository's node_modules.
 */
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { denoExecutable } from "./deno.mjs";

const root = path.resolve(import.meta.dirname, "..");
const manifest = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
const bin = (name) => path.join(root, "node_modules", ".bin", name);
const keep = process.argv[2];
const folder = keep ? path.resolve(keep) : fs.mkdtempSync(path.join(os.tmpdir(), "webrlhf-consumer-"));
const inFolder = (...names) => path.join(folder, ...names);
const write = (name, text) => fs.writeFileSync(inFolder(name), text);
const writeJson = (name, value) => write(name, `${JSON.stringify(value, null, 2)}\n`);

/** Entries that a page has no use for. */
const NODE_ONLY = ["webrlhf/cli"];
const entries = Object.keys(manifest.exports)
  .filter((door) => door !== "./package.json")
  .map((door) => door.replace(/^\./, manifest.name));

let failed = false;

/** Runs one check and prints how it went; `wrong` finds what is wrong in the output of a command that succeeded. */
function check(what, command, args, wrong = () => null) {
  const started = Date.now();
  const env = { ...process.env, DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: folder, env, encoding: "utf8" });
  const output = `${stdout ?? ""}${stderr ?? ""}`;
  const reason = error?.message ?? (status !== 0 ? `exit code ${status}` : wrong(output));
  console.log(`${reason ? "FAILED" : "ok    "} ${what} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  if (!reason) return;
  failed = true;
  console.log(`${reason}\n${output}`);
}

/** Unpacks the package into the project's node_modules, and links beside it what it depends on. */
function install() {
  fs.mkdirSync(folder, { recursive: true });
  const inRoot = { cwd: root, stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" };
  execFileSync("npm", ["run", "-s", "build"], inRoot);
  const [{ filename }] = JSON.parse(
    execFileSync("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder], inRoot),
  );
  const modules = inFolder("node_modules");
  fs.rmSync(modules, { recursive: true, force: true });
  fs.mkdirSync(path.join(modules, manifest.name), { recursive: true });
  execFileSync("tar", ["xzf", inFolder(filename), "-C", path.join(modules, manifest.name), "--strip-components=1"]);
  for (const name of Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies })) {
    const from = path.join(root, "node_modules", name);
    if (!fs.existsSync(from)) continue;
    fs.mkdirSync(path.dirname(path.join(modules, name)), { recursive: true });
    fs.symlinkSync(from, path.join(modules, name), "dir");
  }
}

/** Copies the examples, less the configuration that serves one from here; gives their names. */
function copyExamples() {
  const from = path.join(root, "examples");
  if (!fs.existsSync(from)) return [];
  const names = fs.readdirSync(from).filter((name) => name.endsWith(".ts") && name !== "vite.config.ts");
  for (const name of names) fs.copyFileSync(path.join(from, name), inFolder(name));
  return names;
}

/** A program that names every entry and computes something with the first. */
function program(names) {
  const imports = names.map((name, i) => `import * as entry${i} from "${name}";`);
  return [
    ...imports,
    `const entries: object[] = [${names.map((_, i) => `entry${i}`).join(", ")}];`,
    'if (entries.some((entry) => Object.keys(entry).length === 0)) throw new Error("an entry is empty");',
    "const { openDevice, tensor } = entry0;",
    "await openDevice();",
    'console.log("sum", (await entry0.sum(tensor([1, 2, 3])).read())[0]);',
    "",
  ].join("\n");
}

try {
  install();
  const examples = copyExamples();
  const page = entries.filter((name) => !NODE_ONLY.includes(name));
  writeJson("package.json", {
    private: true,
    type: "module",
    dependencies: { [manifest.name]: manifest.version },
  });
  write("every-entry.ts", program(entries));
  write("page.ts", program(page) + examples.map((name, i) => `export * as example${i} from "./${name}";\n`).join(""));
  write("index.html", '<!doctype html><script type="module" src="./page.ts"></script>\n');
  writeJson("tsconfig.json", {
    compilerOptions: {
      target: "ES2023",
      lib: ["ES2023", "ESNext.Disposable", "DOM", "DOM.Iterable"],
      module: "NodeNext",
      strict: true,
      noEmit: true,
      types: [],
      allowImportingTsExtensions: true,
      skipLibCheck: false,
    },
    include: ["*.ts"],
  });
  writeJson("deno.json", { nodeModulesDir: "manual", lock: false });

  check(`tsc --strict: ${entries.length} entries, ${examples.length} examples`, bin("tsc"), ["-p", "."]);
  check("vite build", bin("vite"), ["build"], (output) =>
    /externalized/.test(output) ? "Node's modules are in the page's way" : null,
  );
  const computes = (output) => (output.includes("sum 6") ? null : "the sum of 1, 2 and 3 is not 6");
  write("run.mjs", program(entries).replace(": object[]", ""));
  check("node", process.execPath, ["run.mjs"], computes);
  write(
    "import.mjs",
    'const from = performance.now();\nawait import("webrlhf");\nconsole.log(performance.now() - from);\n',
  );
  const times = Array.from({ length: 11 }, () =>
    Number(execFileSync(process.execPath, ["import.mjs"], { cwd: folder, encoding: "utf8" })),
  );
  console.log(`        import "webrlhf" takes ${times.sort((a, b) => a - b)[5].toFixed(0)} ms (median of 11)`);
  // A plugin's "webrlhf" is the copy that runs it: this repository's, though another one is installed beside the plugin.
  write(
    "plugin.mjs",
    'import { registerDataset } from "webrlhf/data";\n' +
      'registerDataset({ name: "mine", items: () => [{ input: "a", answer: "b" }] });\n',
  );
  const plugged = ["data", "describe", "--plugin", "./plugin.mjs", "--dataset", "mine"];
  const finds = (output) => (output.includes("prompt: ") ? null : "the plugin's dataset is not there");
  for (const home of [inFolder("node_modules", manifest.name), root]) {
    check("node: a plugin", process.execPath, [path.join(home, "dist/cli/main.js"), ...plugged], finds);
  }
  const deno = denoExecutable();
  if (deno) {
    check("deno check", deno, ["check", "every-entry.ts", ...examples]);
    check("deno run", deno, ["run", "-A", "every-entry.ts"], computes);
  } else console.log("skipped: npm has no Deno for this system");
} finally {
  if (!keep) fs.rmSync(folder, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
