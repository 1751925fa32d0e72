import { adapterNote, type Caps, openDevice } from "../gpu/device.ts";
import type { Terminal } from "./terminal.ts";

let announced = false;

/**
 * Opens the GPU once per process and says which one it is.
 * @param adapter its number, as `webrlhf doctor` lists them. Default: the variable WEBRLHF_ADAPTER, else the fastest
 */
export async function openGpu(terminal: Terminal, adapter: number | null = null): Promise<Caps> {
  const caps = await openDevice({ adapter });
  if (!announced) terminal.line(adapterNote());
  announced = true;
  return caps;
}
