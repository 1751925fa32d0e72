/** Puts a model's folder on the hub. */
import { HubUpload, UncertainCommit, type UploadedFile } from "../io/hub-upload.ts";
import { UserError } from "../runtime/errors.ts";
import { type Files, isPartial } from "../runtime/files.ts";
import { absolute, basename, join } from "../runtime/paths.ts";
import { accessOf } from "./hub.ts";
import { filesOf, type Surroundings } from "./surroundings.ts";

/** Where a folder goes. */
export interface HubTarget {
  /** The model's name on the hub, org/name or name. Default: the folder's name, among the models of the token's owner. */
  hubModelId?: string | null | undefined;
  /** A token that may write. Default: the surroundings' own, or the environment's. */
  hubToken?: string | null | undefined;
  /** Whether the repository is private, where it is made. Default: as its owner's are. */
  hubPrivateRepo?: boolean | null | undefined;
}

/** A repository that may be written to. */
export interface Push {
  /** org/name. */
  readonly id: string;
  /**
   * Sends what the folder holds by then, in one commit at the end; returns its address.
   * @throws UserError that says whether anything of it is on the hub, and how to try again
   */
  push(): Promise<string>;
}

/**
 * Files of runs and of this machine, which are not part of a model: logs, what the model wrote, checkpoints, the record with its paths.
 */
const STAYS =
  /^(\.|(run|stage|done|trainer_state)\.json$|.*\.run\.json$|(checkpoint-|iteration_)\d+$|(runs|wandb|trackio|control)$)|\.(jsonl|partial.*)$/;
const WEIGHTS = /(^|\/)(config|adapter_config)\.json$/;

/** The files of a folder that are pushed, by their paths in it. */
async function pushedFiles(files: Files, folder: string, below = ""): Promise<UploadedFile[]> {
  const found: UploadedFile[] = [];
  for (const name of await files.list(below === "" ? folder : join(folder, below))) {
    if (STAYS.test(name) || isPartial(name)) continue;
    const path = below === "" ? name : `${below}/${name}`;
    if ((await files.list(join(folder, path))).length > 0) {
      for (const file of await pushedFiles(files, folder, path)) found.push(file);
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

/**
 * The files of a model's folder that a push sends: all but those of runs and of this machine.
 * @throws UserError where it holds no model
 */
export async function modelToPush(folder: string, around: Surroundings = {}): Promise<UploadedFile[]> {
  const found = await pushedFiles(await filesOf(around), folder);
  if (found.some(({ path }) => WEIGHTS.test(path))) return found;
  throw new UserError(`${folder} holds no model: there is no config.json or adapter_config.json in it`);
}

/** The name on the hub without its owner, of a folder. */
const nameOf = (folder: string): string => basename(absolute(folder)).replaceAll(/[^\w.-]+/g, "-");

/**
 * Looks whether the hub takes the token, before any work is done; writes nothing. The folder may be made afterwards.
 * @throws UserError that says what is missing
 */
export async function openPush(folder: string, target: HubTarget = {}, around: Surroundings = {}): Promise<Push> {
  const { endpoint, fetch, offline, signal, token: known } = await accessOf(around);
  const token = target.hubToken?.trim() || known;
  if (!token)
    throw new UserError("there is no token for the hub: set the variable HF_TOKEN, or log in with hf auth login");
  if (offline) throw new UserError("HF_HUB_OFFLINE is set: nothing can be pushed");
  const name = target.hubModelId ?? nameOf(folder);
  if (!/^[\w.-]{1,96}(\/[\w.-]{1,96})?$/.test(name)) {
    throw new UserError(
      `hub_model_id must be org/name or name, of letters, digits, ".", "_" and "-", not ${JSON.stringify(name)}`,
    );
  }
  let told = "";
  const upload = new HubUpload({
    token,
    endpoint,
    signal,
    ...(fetch && { fetch }),
    onProgress(path, done, total) {
      const line = `pushing ${path}: ${done === total ? "done" : `${Math.floor((10 * done) / total) * 10} %`}`;
      if (line !== told) around.say?.(line);
      told = line;
    },
  });
  const account = await upload.account();
  const id = name.includes("/") ? name : `${account}/${name}`;
  return {
    id,
    async push() {
      const list = await modelToPush(folder, around);
      try {
        await upload.makeRepo(id, target.hubPrivateRepo ?? null);
        const url = await upload.push(id, list, `Model of ${basename(absolute(folder))}, by webrlhf`);
        around.say?.(`pushed ${list.length} files: ${url}`);
        return url;
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
