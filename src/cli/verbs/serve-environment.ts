import { openEnvironment } from "../../open/environments.ts";
import { environmentSettings } from "../../rlhf/environment/settings.ts";
import { model } from "../../rlhf/settings.ts";
import { environmentServerDefaults, serveEnvironment } from "../../serve/openenv/server.ts";
import { group, settings } from "../../settings/index.ts";
import { isLoopback, listening, stopped } from "../listening.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const network = group("Network");
const { maxSessions, idleMs } = environmentServerDefaults;

const serveEnvironmentSettings = settings("serve-environment", {
  environment: model.path(
    null,
    "What is served: builtin:guess, calculator, grid or story, or a module of your own (./my-environment.ts)",
    { required: true },
  ),
  environmentTimeout: environmentSettings.environmentTimeout,
  ...listening,
  maxConcurrentEnvs: network.int(maxSessions, "Episodes at once, each a session; more are told CAPACITY_REACHED", {
    min: 1,
  }),
  sessionTimeout: network.float(idleMs / 1000, "Seconds without a message after which a session is over", { min: 1 }),
});

export const serveEnvironmentVerb = defineVerb({
  name: "serve-environment",
  summary: summaries["serve-environment"],
  settings: serveEnvironmentSettings,
  argument: "environment",
  examples: [
    "webrlhf serve-environment ./my-environment.ts --port 8000",
    "webrlhf serve-environment 'builtin:guess?numbers=15' --max_concurrent_envs 64",
  ],
  interruptNote: null,
  async run(o, { terminal, signal }) {
    const environment = await openEnvironment(o.environment as string);
    const server = await serveEnvironment(environment, {
      host: o.host,
      port: o.port,
      allowedHosts: o.allowedHosts ?? [],
      maxSessions: o.maxConcurrentEnvs,
      idleMs: o.sessionTimeout * 1000,
      timeoutMs: o.environmentTimeout * 1000,
      log: (line) => terminal.line(terminal.style("yellow", line)),
    });
    terminal.line(
      `${environment.name ?? "the environment"} is played at ${server.url}: --environment openenv:${server.url}`,
    );
    if (!isLoopback(o.host)) terminal.line(terminal.style("yellow", "anyone who reaches this address may play it"));
    await stopped(signal);
    await server.close();
    terminal.line("stopped");
  },
});
