/**
 * Kernels that some GPU might compute wrong are tried when it is first used with its driver: a family that fails gives way to a
 * slower one. The modules that have such kernels register what tries them.
 */

/** Kernels that rely on the same things, and are turned off together. */
export type KernelFamily =
  | "subgroup rows"
  | "workgroup rows"
  | "tiled products"
  | "products of few rows"
  | "matrix products"
  | "tiled attention"
  | "matrix attention"
  | "cached attention";

/** How a family is tried. */
export interface SelfTest {
  family: KernelFamily;
  /** Runs the family's kernels on the open device, for some milliseconds; whether the values are right, if that can be told. */
  passes(): Promise<boolean | undefined>;
}

/** What was found before under this name, else what `find` finds, and whether that holds for the next program too. */
export type Remember = (name: string, find: () => Promise<{ value: boolean; keep: boolean }>) => Promise<boolean>;

const tests: SelfTest[] = [];

/** Registers the trial of a family. */
export function registerSelfTest(test: SelfTest): void {
  tests.push(test);
}

/** The registered families that do not work, as `works` finds. */
export async function failingFamilies(
  works: (family: KernelFamily, passes: SelfTest["passes"]) => Promise<boolean>,
): Promise<KernelFamily[]> {
  const failing: KernelFamily[] = [];
  for (const { family, passes } of tests) if (!(await works(family, passes))) failing.push(family);
  return failing;
}
