import { adapterNote, type Caps, openDevice } from "../gpu/device.ts";
import type { Terminal } from "./terminal.ts";

let announced = false;

/** Opens the GPU once per process and says which one it is. */
export async function openGpu(terminal: Terminal): Promise<Caps> {
  const caps = await openDevice();
  if (!announced) terminal.line(adapterNote());
  announced = true;
  return caps;
}
