/** One of several adapters, by its number: where a machine has several GPUs, each process takes its own. */
import { environment } from "../runtime/environment.ts";
import { UserError } from "../runtime/errors.ts";

/** An adapter as Dawn lists it. */
export interface ListedAdapter {
  backend: string;
  name: string;
}

/** The number of the adapter to use, from 0; null takes the fastest. The option decides before the variable WEBRLHF_ADAPTER. */
export function adapterWanted(option?: number | null): number | null {
  if (option !== undefined && option !== null) return option;
  const said = environment("WEBRLHF_ADAPTER");
  if (!said) return null;
  if (/^\d{1,4}$/.test(said)) return Number(said);
  throw new UserError(`WEBRLHF_ADAPTER is "${said}": it must be an adapter's number, as webrlhf doctor lists them`);
}

/** The list in words: "0: vulkan: NVIDIA H200". */
const shown = (all: readonly ListedAdapter[]): string =>
  all.map(({ backend, name }, i) => `${i}: ${backend}: ${name}`).join("; ");

/**
 * What Dawn is told so that it takes the adapter of a number. It takes the first one whose name has a text in it.
 * @throws UserError, with the list, where there is no such adapter, or where its name means an earlier one
 */
export function choiceFlags(all: readonly ListedAdapter[], number: number): string[] {
  const wanted = all[number];
  if (!wanted) {
    const what = all.length === 0 ? "and there is none" : `and there are ${shown(all)}`;
    throw new UserError(`adapter ${number} is asked for, ${what}`);
  }
  const first = all.findIndex(({ backend, name }) => backend === wanted.backend && name.includes(wanted.name));
  if (first !== number) {
    throw new UserError(
      `adapter ${number} cannot be told from adapter ${first} (${shown(all)}): Dawn chooses by name. Show each process its GPU ` +
        'alone: in a container (docker run --gpus "device=1"), or, where Mesa\'s layer VK_LAYER_MESA_device_select is ' +
        "installed, with DRI_PRIME=pci-0000_02_00_0! and the GPU's own PCI address",
    );
  }
  return [`backend=${wanted.backend}`, `adapter=${wanted.name}`];
}
