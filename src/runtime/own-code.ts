/** Loading people's own modules: rewards, datasets and plugins that they name by path. */
import { isUserError, UserError } from "./errors.ts";
import { hasDisk } from "./open.ts";
import { isAddress } from "./paths.ts";

/** Whether a name means a module of code, by its ending. */
export const isCode = (name: string): boolean => /\.m?[jt]s$/i.test(name);

/**
 * Loads a module of the user's own by `import()`. TypeScript works where the runtime reads it: Deno, and Node from 22.18.
 * @param path of the module, from the working folder; in a page a URL
 * @throws UserError that says what the module or the runtime lacks
 */
export async function importCode(path: string): Promise<Record<string, unknown>> {
  await shareThisCopy();
  const url = await addressOf(path);
  try {
    return (await import(/* @vite-ignore */ url)) as Record<string, unknown>;
  } catch (error) {
    throw explained(error as Error, path, url);
  }
}

async function addressOf(path: string): Promise<string> {
  if (isAddress(path)) return path;
  if (!hasDisk) return new URL(path, globalThis.location.href).href;
  const { access } = await import("node:fs/promises");
  const { resolve } = await import("node:path");
  const { pathToFileURL } = await import("node:url");
  const file = resolve(path);
  await access(file).catch(() => {
    throw new UserError(`cannot read ${path}: no such file`);
  });
  return pathToFileURL(file).href;
}

/** What went wrong, in the words of somebody who has the module before them. */
export function explained(error: Error & { code?: string }, path: string, url = path): UserError {
  const { code, message } = error;
  const because = (text: string) => new UserError(`${path}: ${text}`, { cause: error });
  if (code === "ERR_UNKNOWN_FILE_EXTENSION") {
    return because(
      `${runtimeName()} does not read TypeScript: use Node 22.18 or newer, or Deno, or compile the module to .mjs`,
    );
  }
  if (code === "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX" || code === "ERR_INVALID_TYPESCRIPT_SYNTAX") {
    return because(`Node reads TypeScript only where types can be left out of it (no enum, no namespace): ${message}`);
  }
  if (/webrlhf/.test(message) && (code === "ERR_MODULE_NOT_FOUND" || code === "ERR_PACKAGE_PATH_NOT_EXPORTED")) {
    return because(`${message.split("\n")[0]}; install the package beside the module: npm install webrlhf`);
  }
  const place = placeIn(error, url);
  return because(`the module cannot be loaded: ${error.name}: ${message}${place && ` (${place})`}`);
}

/** "line 12" where an error comes from a module, or nothing where it does not say so. */
function placeIn(error: Error, url: string): string {
  const file = url.replace(/^.*\//, "").replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const found = new RegExp(`${file}(?:\\?[^:\\s]*)?:(\\d+)`).exec(error.stack ?? "");
  return found ? `line ${found[1]}` : "";
}

/** What a module's own function threw, with the module before it and its line behind it. */
export function failed(what: string, error: unknown, path = what): UserError {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  if (isUserError(error))
    return new UserError(message.startsWith(path) ? message : `${what}: ${message}`, { cause: error });
  const place = placeIn(error as Error, path);
  return new UserError(`${what} failed: ${name}: ${message}${place && ` (${place})`}`, { cause: error });
}

const runtimeName = (): string => {
  const { process } = globalThis;
  return process?.versions?.node ? `Node ${process.versions.node}` : "this runtime";
};

let shared = false;

/**
 * Lets modules that import "webrlhf" get the copy that runs: with one of their own, what they register would be registered
 * somewhere else. Node only; in Deno the import map decides, in pages the bundler.
 */
async function shareThisCopy(): Promise<void> {
  if (shared || !hasDisk || "Deno" in globalThis) return;
  shared = true;
  const module = await import("node:module");
  const { registerHooks } = module as unknown as Hooks;
  const own = import.meta.url;
  if (registerHooks) {
    registerHooks({
      resolve: (specifier, context, next) =>
        next(specifier, isOwnName(specifier) ? { ...context, parentURL: own } : context),
    });
    return;
  }
  const hooks = `const isOwnName = ${isOwnName};
    export const resolve = (specifier, context, next) =>
      next(specifier, isOwnName(specifier) ? { ...context, parentURL: ${JSON.stringify(own)} } : context);`;
  module.register(`data:text/javascript,${encodeURIComponent(hooks)}`);
}

const isOwnName = (specifier: string) => /^webrlhf(\/|$)/.test(specifier);

type Resolve = (specifier: string, context: { parentURL?: string }) => unknown;

/** Node's door from 22.15 on; before that there is `register`, whose hooks run on a thread of their own. */
interface Hooks {
  registerHooks?: (hooks: {
    resolve(specifier: string, context: { parentURL?: string }, next: Resolve): unknown;
  }) => unknown;
}
