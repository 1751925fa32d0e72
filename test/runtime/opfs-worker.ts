/** Another page or worker of the origin, for tests of the private file system. */
import { opfsFiles } from "webrlhf";

const never = new Promise<void>(() => {});

const work: Record<string, (root: string) => Promise<unknown>> = {
  async write(root) {
    const files = await opfsFiles(root);
    await files.writeFolder("run", { a: "from a worker", "s/b": "2" });
    await files.append("log", "1");
    await files.append("log", "2");
    return files.list("run");
  },
  /** Takes the run's folder, and is in the middle of writing when it is ended. */
  async hang(root) {
    const files = await opfsFiles(root);
    await files.claim?.("run");
    const slow = async function* () {
      yield new TextEncoder().encode("half");
      postMessage("writing");
      await never;
    };
    await files.writeFolder("run", { a: "new", b: slow() });
  },
};

addEventListener("message", ({ data }: MessageEvent<{ verb: string; root: string }>) => {
  work[data.verb](data.root).then(postMessage, (error) => postMessage(String(error)));
});
