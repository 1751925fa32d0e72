import { spawn } from "node:child_process";
import path from "node:path";
import { describe, expect, it } from "vitest";

const root = path.resolve(import.meta.dirname, "../..");

// In a process of its own, since drivers are chosen once per process.
const program = `
  import { createServer } from "vite";
  const server = { middlewareMode: true, ws: false, watch: null };
  const vite = await createServer({ root: ${JSON.stringify(root)}, server, configFile: false, logLevel: "error", appType: "custom" });
  const { requestAdapter } = await vite.ssrLoadModule("/src/gpu/adapter.ts");
  const error = await requestAdapter().then(() => null, (error) => error);
  console.log(JSON.stringify({ name: error?.name, message: error?.message }));
  await vite.close();
`;

function inProcess(env: Record<string, string>): Promise<{ name?: string; message?: string }> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "ignore"],
  });
  let out = "";
  child.stdout.on("data", (bytes) => (out += bytes));
  return new Promise((resolve) => child.on("close", () => resolve(JSON.parse(out))));
}

describe.runIf(process.platform === "linux")("a machine without an adapter", () => {
  it("gets one error with the remedies, and the driver that the user chose is not replaced", async () => {
    const chosen = "/no/such/driver.json";
    const { name, message } = await inProcess({ VK_ICD_FILENAMES: chosen, VK_DRIVER_FILES: chosen });
    expect(name).toBe("UserError");
    expect(message).toMatch(/^No WebGPU adapter: .*VK_DRIVER_FILES=\/no\/such\/driver\.json.*mesa-vulkan-drivers/);
    expect(message).not.toContain("\n");
  });
});
