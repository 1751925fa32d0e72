import { logging } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { settings } from "../../settings/index.ts";
import { defineVerb } from "../verb.ts";
import { startWatch } from "../watch-server.ts";
import { summaries } from "./summaries.ts";

const watchSettings = settings("watch", {
  inputDir: logging.path("out", "Folder of runs, of a recipe's stages, or of one run; runs that begin later appear"),
  port: logging.int(6007, "Port on 127.0.0.1, where only this machine reaches it; 0 takes a free one", {
    min: 0,
    max: 65535,
  }),
  controls: logging.bool(
    true,
    "Let whoever has the printed address, with its token, pause, stop and save runs at work and change their learning rate and KL weight",
  ),
});

export const watchVerb = defineVerb({
  name: "watch",
  summary: summaries.watch,
  settings: watchSettings,
  argument: "inputDir",
  examples: ["webrlhf watch runs", "webrlhf watch out/ppo --port 0", "webrlhf watch runs --controls false"],
  interruptNote: null,
  async run({ inputDir, port, controls }, { terminal, signal }) {
    const files = await diskFiles();
    const dir = inputDir as string;
    if ((await files.list(dir)).length === 0) throw new UserError(`${dir}: no such folder, or nothing in it`);
    const server = await startWatch(files, dir, port, controls);
    terminal.line(`the runs in ${dir} are shown at ${server.page}`);
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await server.close();
  },
});
