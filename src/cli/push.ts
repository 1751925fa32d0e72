/** Puts a model's folder on the hub. */
import { HubUpload, UncertainCommit, type UploadedFile } from "../io/hub-upload.ts";
import { UserError } from "../runtime/errors.ts";
import { type Files, isPartial } from "../runtime/files.ts";
import { hubEnvironment } from "../runtime/hub-disk.ts";
import { absolute, basename, join } from "../runtime/paths.ts";
import type { Terminal } from "./terminal.ts";

/** Where a folder goes. */
export interface HubTarget {
  hubModelId: string | null;
  hubToken: string | null;
  hubPrivateRepo: boolean | null;
}

/** A repository that may be written to. */
export interface Pusher {
  /** org/name. */
  readonly id: string;
  push(): Promise<void>;
}

/**
 * Files of runs and of this machine, which are not part of a model: logs, what the model wrote, checkpoints, the record with its paths.
 */
const STAYS =
  /^(\.|(run|stage|done|trainer_state)\.json$|.*\.run\.json$|(checkpoint-|iteration_)\d+$|(runs|wandb|trackio|control)$)|\.(jsonl|partial.*)$/;
const WEIGHTS = /(^|\/)(config|adapter_config)\.json$/;

/** The files of a folder that are pushed, by their paths in it. */
export async function pushedFiles(files: Files, folder: string, below = ""): Promise<UploadedFile[]> {
  const found: UploadedFile[] = [];
  for (const name of await files.list(join(folder, below))) {
    if (STAYS.test(name) || isPartial(name)) continue;
    const path = below === "" ? name : `${below}/${name}`;
    if ((await files.list(join(folder, path))).length > 0) {
      found.push(...(await pushedFiles(files, folder, path)));
      continue;
    }
    const open = async () => {
      const opened = await files.open(join(folder, path));
      if (opened) return opened;
      throw new UserError(`${join(folder, path)} is gone while it is pushed`);
    };
    const opened = await open();
    await opened.close();
    found.push({ path, size: opened.size, open });
  }
  return found;
}

/** The files of a folder that holds a model. Throws a UserError where it holds none. */
export async function modelToPush(files: Files, folder: string): Promise<UploadedFile[]> {
  const found = await pushedFiles(files, folder);
  if (found.some(({ path }) => WEIGHTS.test(path))) return found;
  throw new UserError(`${folder} holds no model: there is no config.json or adapter_config.json in it`);
}

/** The name on the hub without its owner, of a folder. */
const nameOf = (folder: string): string => basename(absolute(folder)).replaceAll(/[^\w.-]+/g, "-");

/**
 * Looks whether the hub takes the token, before any work is done; writes nothing.
 * @throws UserError that says what is missing
 */
export async function openPusher(
  files: Files,
  folder: string,
  { hubModelId, hubToken, hubPrivateRepo }: HubTarget,
  { terminal, signal }: { terminal: Terminal; signal?: AbortSignal },
): Promise<Pusher> {
  const around = await hubEnvironment();
  const token = hubToken?.trim() || around.token;
  if (!token)
    throw new UserError("there is no token for the hub: set the variable HF_TOKEN, or log in with hf auth login");
  if (around.offline) throw new UserError("HF_HUB_OFFLINE is set: nothing can be pushed");
  const name = hubModelId ?? nameOf(folder);
  if (!/^[\w.-]{1,96}(\/[\w.-]{1,96})?$/.test(name)) {
    throw new UserError(
      `hub_model_id must be org/name or name, of letters, digits, ".", "_" and "-", not ${JSON.stringify(name)}`,
    );
  }
  let told = "";
  const upload = new HubUpload({
    token,
    endpoint: around.endpoint,
    signal,
    onProgress(path, done, total) {
      const line = `pushing ${path}: ${done === total ? "done" : `${Math.floor((10 * done) / total) * 10} %`}`;
      if (line !== told) terminal.line(line);
      told = line;
    },
  });
  const account = await upload.account();
  const id = name.includes("/") ? name : `${account}/${name}`;
  return {
    id,
    async push() {
      const list = await modelToPush(files, folder);
      try {
        await upload.makeRepo(id, hubPrivateRepo);
        const url = await upload.push(id, list, `Model of ${basename(absolute(folder))}, by webrlhf`);
        terminal.line(`pushed ${list.length} files: ${url}`);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        const there =
          error instanceof UncertainCommit
            ? `the hub did not say whether it has it, look at ${upload.endpoint}/${id}`
            : "nothing of it is on the hub";
        throw new UserError(
          `${folder} is complete here, and ${there}: ${why}; try again with: webrlhf push ${folder} --hub_model_id ${id}`,
          { cause: error },
        );
      }
    },
  };
}
