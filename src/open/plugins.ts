/** Modules of people's own that add to the library before a run: datasets, formats, templates, families, losses, verbs. */
import { UserError } from "../runtime/errors.ts";
import { importCode } from "../runtime/own-code.ts";

/**
 * Loads modules for what they register. A module does so by the register functions of the entries it imports
 * (`registerDataset`, `registerFormat`, `registerSchema` and `registerChatTemplate` of webrlhf/data, `registerFamily` of
 * webrlhf/nn, `registerPreferenceLoss` of webrlhf/rlhf, `registerVerb` of webrlhf/cli), when it is loaded or in a function that
 * it exports as `default`, which is called without arguments and awaited.
 * @param paths from the working folder; TypeScript on Node from 22.18 and on Deno, elsewhere JavaScript
 * @throws UserError naming the module that is missing, cannot be loaded, or fails
 */
export async function loadPlugins(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const { default: register } = await importCode(path);
    if (register === undefined) continue;
    if (typeof register !== "function") {
      throw new UserError(`${path}: what a plugin exports as "default" is a function, this is ${typeof register}`);
    }
    await register();
  }
}
