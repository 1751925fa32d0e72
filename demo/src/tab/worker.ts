/** The worker of the page that works in a cluster: it draws, and keeps the weights while the page pauses. */
import { ClusterError, connectCluster, holdWeights, runWorker } from "webrlhf/cluster";
import { type Program, serveSession } from "webrlhf/worker";
import type { Over, Told, WorkInput } from "./protocol.ts";

const START: Told = {
  ...{ at: "away", done: 0, tokens: 0, tokensPerSecond: 0, fetching: null, standBy: null },
  ...{ joined: false, said: "" },
};
let told = START;
const held = holdWeights();
/** The cluster that has let this page in: it is waited for when it is away for a while. */
let known = "";

const RETRY_MS = 2000;

async function work(input: WorkInput, signal: AbortSignal): Promise<void> {
  const { url, creds, name, adapter } = input;
  const connection = await connectCluster({ url, creds, file: "the invitation" }, `webrlhf worker ${name}`);
  known = url;
  try {
    told = { ...told, joined: true };
    const watch = (state: object) => {
      told = { ...told, ...state };
    };
    const say = (said: string) => watch({ said });
    await runWorker(connection, { name, adapter, signal, watch, say, held });
  } finally {
    await connection.nc.close();
  }
}

const program: Program<WorkInput, Over> = {
  async *run(input, { signal }) {
    told = START;
    while (!signal.aborted) {
      try {
        await work(input, signal);
      } catch (error) {
        if (!(error instanceof ClusterError)) throw error;
        const { absence, message } = error;
        if (absence === "gpu") {
          held.destroy();
          throw error; // the session opens another device, if there is one, and goes on
        }
        if (absence === "unreachable" && known === input.url) {
          told = { ...told, joined: false, at: "away" };
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
          continue;
        }
        yield { type: "over", absence, message };
        return;
      }
    }
  },
};

serveSession({
  programs: { work: program },
  queries: { told: { answer: async () => told, anytime: true } },
});
