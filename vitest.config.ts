import { playwright } from "@vitest/browser-playwright";
import { defineConfig, type TestProjectConfiguration } from "vitest/config";
import { ownName } from "./scripts/own-name.ts";
import { embeddedChromium } from "./src/runtime/embedded.ts";

// Tests of the GPU layers import nothing of Node: they run unchanged in Node (Dawn), Deno (wgpu) and Chromium.
const portable = [
  "test/{gpu,tensor,nn,rlhf,worker}/**/*.test.ts",
  "test/{entries,examples,open/anywhere,runtime/{browser-files,zip}}.test.ts",
];

// One process and one device for many files: opening devices and compiling shaders is what costs time.
const shared = { testTimeout: 120_000, hookTimeout: 120_000 };

const resolve = { alias: ownName };

const node: TestProjectConfiguration = {
  resolve,
  test: {
    ...{ ...shared, name: "node", pool: "forks", maxWorkers: 2, isolate: false },
    include: ["test/**/*.test.ts"],
    exclude: ["test/**/*.apart.test.ts"],
  },
};

// What puts something else in a module's place: files that share a process share its modules as well.
const apart: TestProjectConfiguration = {
  resolve,
  test: { ...shared, name: "node-apart", include: ["test/**/*.apart.test.ts"], pool: "forks", maxWorkers: 2 },
};

// What takes minutes in a software browser and breaks rarely: `npm run proofs`.
const proofs: TestProjectConfiguration = {
  resolve,
  test: { ...shared, name: "proofs", include: ["test/**/*.proof.ts"], pool: "forks", maxWorkers: 2, isolate: false },
};

const deno: TestProjectConfiguration = {
  resolve,
  test: { ...shared, name: "deno", include: portable, pool: "forks", maxWorkers: 1, isolate: false },
};

async function browser(): Promise<TestProjectConfiguration> {
  const path = process.env.WEBRLHF_CHROMIUM;
  const chromium = path ? { executable: path, env: {} } : await embeddedChromium();
  return {
    resolve,
    // Named here because a dependency discovered in the middle of a run reloads the page.
    optimizeDeps: { include: ["@zip.js/zip.js/lib/zip-core-custom.js", "fast-check", "yaml"] },
    test: {
      ...shared,
      name: "browser",
      sequence: { groupOrder: 1 },
      include: portable,
      browser: {
        enabled: true,
        headless: true,
        screenshotFailures: false,
        isolate: false,
        instances: [{ browser: "chromium" }],
        provider: playwright({
          launchOptions: {
            executablePath: chromium?.executable,
            env: { ...(process.env as Record<string, string>), ...chromium?.env },
            args: [
              "--no-sandbox",
              "--enable-unsafe-webgpu",
              "--enable-features=Vulkan",
              "--use-vulkan=swiftshader",
              "--use-angle=swiftshader",
            ],
          },
        }),
      },
    },
  };
}

// `vitest --project node` must not unpack a browser.
const named: Record<string, TestProjectConfiguration[]> = { node: [node, apart], proofs: [proofs] };
const only = process.argv.includes("--project") ? process.argv[process.argv.indexOf("--project") + 1] : undefined;

export default defineConfig(async () => ({
  test: {
    // Shuffled within their files, so that no test needs an earlier one; --sequence.seed tries another order.
    sequence: { shuffle: { tests: true }, seed: 1 },
    projects: "Deno" in globalThis ? [deno] : only && only in named ? named[only] : [node, apart, await browser()],
  },
}));
