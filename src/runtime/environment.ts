/** A variable of the process's environment; undefined in browsers, and in Deno where reading it is not allowed. */
export function environment(name: string): string | undefined {
  try {
    return globalThis.process?.env?.[name];
  } catch {
    return undefined;
  }
}
