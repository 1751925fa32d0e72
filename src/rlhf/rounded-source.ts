/** Policies whose adapters travel in fewer bits: the rounded adapter draws, wherever it does, and not the one that learns. */
import { type AdapterWire, roundedAdapter } from "../nn/adapter-wire.ts";
import type { CausalLM } from "../nn/models.ts";
import { adapterFiles, openAdapter, readAdapterFolder, restoreAdapter } from "../nn/peft.ts";
import { UserError } from "../runtime/errors.ts";
import { memoryFiles } from "../runtime/files.ts";
import { spelled } from "../settings/index.ts";
import type { RolloutSource } from "./source.ts";

/** A policy's twin with a rounded adapter, on the same base. */
class RoundedPolicy {
  private twin: { of: CausalLM; model: CausalLM } | null = null;

  /** The twin of a policy as it is now; valid until the next call. */
  async of(policy: CausalLM, wire: AdapterWire): Promise<CausalLM> {
    const files = memoryFiles();
    await files.writeFolder("m", roundedAdapter(await adapterFiles(policy), wire));
    if (this.twin?.of === policy) await restoreAdapter(this.twin.model, files, "m");
    else {
      this.destroy();
      const folder = await readAdapterFolder(files, "m");
      if (!folder || !policy.baseModel) throw new Error("an adapter without a base");
      const model = await openAdapter(files, folder, policy.baseModel, "lm", { label: "policy that draws" });
      this.twin = { of: policy, model };
    }
    return this.twin.model;
  }

  destroy(): void {
    this.twin?.model.destroy();
    this.twin = null;
  }
}

/**
 * A source to which adapters are handed as `loraWire` can say them; itself where that loses nothing.
 * @throws UserError when a policy is published that has no adapter
 */
export function roundedSource(source: RolloutSource, o: { loraWire: AdapterWire }): RolloutSource {
  const { loraWire: wire } = o;
  if (wire === "f32") return source;
  const rounded = new RoundedPolicy();
  return {
    ...(source.promptsPerJob !== undefined && { promptsPerJob: source.promptsPerJob }),
    ...(source.measuresAt !== undefined && { measuresAt: source.measuresAt }),
    async publish(version, model) {
      if (!model.adapter) {
        throw new UserError(
          `${spelled(o, "loraWire")} ${wire} rounds an adapter, and the policy is trained whole: train an adapter (use_peft), or ` +
            "leave it out",
        );
      }
      await source.publish(version, await rounded.of(model, wire));
    },
    request: (...request) => source.request(...request),
    take: (iteration) => source.take(iteration),
    ...(source.stream && { stream: (next) => (source.stream as NonNullable<typeof source.stream>)(next) }),
    async close() {
      await source.close?.();
      rounded.destroy();
    },
  };
}
