/** What a model would take: bytes to download, memory on the GPU to answer and to train. */
import { estimateRun } from "webrlhf/open";
import { locate, mirrorAt, repoNamed } from "./locate.ts";
import { hubStore, studioFiles } from "./places.ts";
import type { Asked, Look, Thought } from "./protocol.ts";

/** Nothing of the model is loaded: of one on the hub only the configuration is read. */
export async function look({ source, train }: Asked & { train: Thought }, signal: AbortSignal): Promise<Look> {
  const settings = { ...train.settings };
  if (source.from === "disk") {
    const { path, base } = await locate(source, { signal, progress: () => {} });
    return told(base, await estimateRun(train.method, path, settings, { files: studioFiles, signal }));
  }
  const repo = repoNamed(source.name);
  const hub = { store: await hubStore(), ...mirrorAt(source.endpoint) };
  const name = source.name.trim();
  return told(repo.id, await estimateRun(train.method, name, settings, { files: studioFiles, hub, signal }));
}

function told(base: string, { download, memory }: Awaited<ReturnType<typeof estimateRun>>): Look {
  const { total, byKind, refused } = memory;
  if (refused !== null) return { base, download, memory: [{ what: "train", total: 0, refused }] };
  return {
    base,
    download,
    memory: [
      { what: "chat", total: byKind.weights, refused },
      { what: "train", total, refused },
    ],
  };
}
