#!/usr/bin/env node
/**
 * Runs the tests of what computes in Node with the kernels that a GPU would get, on whatever adapter there is: on a
 * software adapter these are kernels that the suite otherwise leaves to its few tests which name them.
 *
 *   npm run test:gpu-path                        every kernel: test/hardware, test/gpu and test/tensor (6 minutes on two cores)
 *   npm run test:gpu-path -- --all               models and trainers as well: test/nn and test/rlhf (17 minutes)
 *   npm run test:gpu-path -- test/nn -t decodes  what vitest takes
 */
import { spawnSync } from "node:child_process";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const vitest = path.join(root, "node_modules", "vitest", "vitest.mjs");
const env = { ...process.env, WEBRLHF_ADAPTER_KIND: "hardware" };
if (process.platform === "linux") env.XDG_RUNTIME_DIR ??= os.tmpdir(); // else lavapipe prints a warning per process
const kernels = ["test/hardware/", "test/gpu/", "test/tensor/"];
const given = process.argv.slice(2);
const all = given[0] === "--all";
const what = all ? [...kernels, "test/nn/", "test/rlhf/", ...given.slice(1)] : given.length > 0 ? given : kernels;
// A software driver that has never seen these kernels compiles some of them for minutes.
const limit = "--testTimeout=400000";
const { status, signal } = spawnSync(process.execPath, [vitest, "run", "--project", "node", limit, ...what], {
  cwd: root,
  env,
  stdio: "inherit",
});
if (signal) console.error(`test:gpu-path: ended by ${signal}`);
process.exit(status ?? 1);
