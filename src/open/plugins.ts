/** Modules of people's own that add to the library before a run: datasets, formats, templates, families, losses, verbs. */
import { registerChatTemplate } from "../data/builtin-templates.ts";
import { registerFormat } from "../data/formats.ts";
import { registerDataset } from "../data/raw/registry.ts";
import { registerSchema } from "../data/schemas.ts";
import { registerFamily } from "../nn/families/table.ts";
import { registerPreferenceLoss } from "../rlhf/losses/preference.ts";
import { UserError } from "../runtime/errors.ts";
import { failed, importCode } from "../runtime/own-code.ts";

/** The library's doors for what a plugin brings: those of webrlhf/data, webrlhf/nn and webrlhf/rlhf. */
export interface PluginApi {
  registerDataset: typeof registerDataset;
  registerFormat: typeof registerFormat;
  registerSchema: typeof registerSchema;
  registerChatTemplate: typeof registerChatTemplate;
  registerFamily: typeof registerFamily;
  registerPreferenceLoss: typeof registerPreferenceLoss;
}

const doors: PluginApi = {
  registerDataset,
  registerFormat,
  registerSchema,
  registerChatTemplate,
  registerFamily,
  registerPreferenceLoss,
};

/**
 * Loads modules for what they register: by the register functions of the entries that they import, when they are loaded; or in
 * a function that they export as `default`, which is awaited and gets those functions, so that it need not import anything.
 * Code runs only because it is named here: model folders and datasets never run any.
 * @param paths from the working folder; TypeScript on Node from 22.18 and on Deno, elsewhere JavaScript
 * @param more further functions to hand over, e.g. the program's own for its verbs
 * @throws UserError naming the module that is missing, cannot be loaded, or fails
 */
export async function loadPlugins(
  paths: readonly string[],
  more: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  for (const path of paths) {
    const { default: register } = await importCode(path);
    if (register === undefined) continue;
    if (typeof register !== "function") {
      throw new UserError(`${path}: what a plugin exports as "default" is a function, this is ${typeof register}`);
    }
    try {
      await register({ ...doors, ...more });
    } catch (error) {
      throw failed(path, error);
    }
  }
}
