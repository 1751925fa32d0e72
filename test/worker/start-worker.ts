/** Starts the worker of the tests; Vite wants to read each way to do so. */
export function startWorker(troubles: "" | "no gpu" | "no files" | "no clock" = ""): Worker {
  if (troubles === "no gpu") {
    return new Worker(new URL("./page.worker.ts", import.meta.url), { type: "module", name: "no gpu" });
  }
  if (troubles === "no files") {
    return new Worker(new URL("./page.worker.ts", import.meta.url), { type: "module", name: "no files" });
  }
  if (troubles === "no clock") {
    return new Worker(new URL("./page.worker.ts", import.meta.url), { type: "module", name: "no clock" });
  }
  return new Worker(new URL("./page.worker.ts", import.meta.url), { type: "module" });
}
