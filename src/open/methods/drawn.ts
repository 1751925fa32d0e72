/** Who draws a run's responses, as its settings and surroundings say. */
import type { Tokenizer } from "../../data/tokenizer.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { Sampler } from "../../rlhf/sampler.ts";
import type { RolloutSource } from "../../rlhf/source.ts";
import type { ResolvedSettings } from "../../settings/index.ts";
import type { RunSurroundings } from "../method.ts";
import { serverSource } from "../servers.ts";
import type * as named from "../settings.ts";
import { filesOf } from "../surroundings.ts";

/**
 * Whom the surroundings name, else the server that the settings name, else nobody: the policy here.
 * @param iterations how often is drawn; null: as often as the data say
 */
export async function drawnBy(
  o: ResolvedSettings<typeof named.serverSettings>,
  around: RunSurroundings,
  { policy, tokenizer }: { policy: CausalLM; tokenizer: Tokenizer },
  iterations: number | null,
): Promise<{ sampler?: Sampler | undefined; source?: RolloutSource | undefined }> {
  const { sampler, source, outputDir = "out", signal = new AbortController().signal } = around;
  if (sampler || source) return { sampler, source };
  const times = iterations ?? Number.POSITIVE_INFINITY;
  const run = { model: policy, tokenizer, iterations: times, files: await filesOf(around), outputDir, signal };
  return { source: (await serverSource(o, run)) ?? undefined };
}
