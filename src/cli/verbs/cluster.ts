/** A cluster's folder, its members, and what its server says. */
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { clusterAccess } from "../../cluster/access.ts";
import { ClusterFolder, CONFIGURATION } from "../../cluster/configuration.ts";
import { connectCluster, tellServer } from "../../cluster/connection.ts";
import { invitationLink } from "../../cluster/invitation.ts";
import { isLoopback, labelPageOf, type PagesChoice, pageAddress, pagesOf } from "../../cluster/pages.ts";
import { newRoomCode, ROOMS, roomFile } from "../../cluster/rooms.ts";
import { statusOf } from "../../cluster/status.ts";
import { logging } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { absolute, basename, join } from "../../runtime/paths.ts";
import { writeSecret } from "../../runtime/secrets.ts";
import { type Condition, effective, needs, settings, where } from "../../settings/index.ts";
import { addressOf, pagesAddressOf } from "../cluster-addresses.ts";
import { network } from "../cluster-settings.ts";
import type { Terminal } from "../terminal.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

/** An invitation may lead to a page; a new cluster only where pages work in it. */
const ofPages: Condition = {
  on: ["action", "browsers"],
  holds: ({ action, browsers }) => action === "invite" || (action === "init" && browsers === true),
  words: (spell) => `unless ${spell("browsers")} is given to cluster init, or with other actions than init and invite`,
};

const clusterVerbSettings = settings(
  "cluster",
  {
    action: network.choice(
      ["init", "status", "invite", "revoke"],
      "status",
      "Set a cluster up, show what it is doing, let another worker in, or put somebody out",
    ),
    ...effective(where("action", "invite", "revoke"), {
      member: network.text(null, "Name of who is invited or revoked; default of an invitation: guest-1 and so on"),
    }),
    clusterDir: logging.path("cluster", "Folder with the cluster's keys, credentials and the server's configuration"),
    ...effective(where("action", "init"), {
      host: network.text("127.0.0.1", "Address that the server listens at; default: this machine alone"),
      port: network.int(4222, "Port of the server", { min: 1, max: 65535 }),
      tlsCert: network.path(null, "Certificate of the server, a PEM file: without one nothing is encrypted"),
      tlsKey: network.path(null, "Key of the certificate, a PEM file"),
      browsers: network.bool(false, "Let pages work, too: the server takes WebSockets, and invitations are links"),
      ...effective(needs("browsers"), {
        websocketPort: network.int(8443, "Port of the server for pages", { min: 1, max: 65535 }),
        origins: network.list(
          null,
          "Origins of the pages that may connect, e.g. https://host; default: that of --page",
        ),
      }),
    }),
    page: network.text(
      null,
      "Address of the page for workers, which invitations lead to; default: http://localhost:5173/worker/, where npm run demo serves it",
      { effect: ofPages },
    ),
    labels: network.bool(
      false,
      "Of an invitation: to label pairs of answers and nothing else. Of a new cluster: its pages do that alone, over plain http, too",
      { effect: ofPages },
    ),
    ...effective(where("action", "invite"), {
      minutes: network.float(90, "Minutes until the invitation expires", { min: 0, exclusiveMin: true }),
      label: network.text(null, "What the invitation is for, in your words"),
      ...effective(needs("labels"), {
        roomsDir: network.path(
          null,
          "Folder rooms beside the page for labels: the invitation is put there under a short code that lets people in",
        ),
      }),
    }),
    ...effective(where("action", "status", "invite", "revoke"), {
      cluster: network.text(null, "The server's address as it is reached; default: as cluster init was told"),
    }),
  },
  (o, name) => {
    if ((o.tlsCert === null) !== (o.tlsKey === null)) {
      throw new UserError(`${name("tlsCert")} and ${name("tlsKey")} go together: give both, or neither`);
    }
    if (o.browsers) pagesFrom(o, name);
    if (o.action === "revoke" && o.member === null) {
      throw new UserError("name whom to revoke: webrlhf cluster revoke NAME");
    }
  },
);

export const clusterVerb = defineVerb({
  name: "cluster",
  summary: summaries.cluster,
  settings: clusterVerbSettings,
  argument: ["action", "member"],
  examples: [
    "webrlhf cluster init --host 0.0.0.0",
    "webrlhf cluster status",
    "webrlhf cluster invite room-12 --minutes 90",
    "webrlhf cluster invite room-12 --labels --rooms_dir demo/dist/label/rooms",
    "webrlhf cluster revoke room-12",
  ],
  endsAtOnce: true,
  async run(o, { terminal }) {
    const files = await diskFiles();
    const path = o.clusterDir;
    const say = (line: string) => terminal.line(line);
    if (o.action === "init") {
      const certificate = o.tlsCert === null ? null : { cert: absolute(o.tlsCert), key: absolute(o.tlsKey as string) };
      const { host, port } = o;
      const store = absolute(join(path, "store"));
      const syncs = serverSyncs(terminal);
      const server = { host, port, certificate, pages: o.browsers ? pagesFrom(o) : null, store, syncs };
      await ClusterFolder.create(files, path, server, writeSecret);
      say(`a cluster in ${path}; start its server with: nats-server -c ${join(path, CONFIGURATION)}`);
      say(`a trainer:  --cluster ${addressOf(server)} --creds ${join(path, "trainer.creds")}`);
      say(
        `a worker:   webrlhf worker --cluster ${addressOf(server)} --creds worker.creds, with that file copied there`,
      );
      if (server.pages) {
        const { origins, labels } = server.pages;
        const invite = labels ? "webrlhf cluster invite --labels" : "webrlhf cluster invite";
        say(`a page:     ${server.pages.page}, with a link from ${invite}; pages of ${origins.join(", ")} may connect`);
      }
      if (!isLoopback(host) && certificate === null) {
        const what = `${server.pages?.labels ? "texts and labels" : "weights, prompts and responses"} go over the network unencrypted: --tls_cert and --tls_key encrypt them`;
        say(terminal.style("yellow", what));
      }
      return;
    }
    const folder = await ClusterFolder.open(files, path, writeSecret);
    const url = o.cluster ?? addressOf(folder.server);
    const access = async (name: string) => clusterAccess(url, join(path, `${name}.creds`));
    if (o.action === "invite" && o.labels) {
      await inviteLabellers(o, folder, url, terminal);
    } else if (o.action === "invite") {
      const name = o.member ?? freeName(Object.keys(folder.members));
      const choice = { seconds: Math.round(o.minutes * 60), ...(o.label !== null && { label: o.label }) };
      const { file, creds, member } = await folder.invite("worker", name, choice);
      const until = new Date((member.expires as number) * 1000).toISOString();
      say(
        `${name} may work until ${until}: webrlhf worker --cluster ${url} --creds ${file}, with that file copied there`,
      );
      const pages = pagesAddressOf(folder.server, o.cluster);
      if (pages !== null && folder.server.pages && !folder.server.pages.labels) {
        const page = o.page === null ? folder.server.pages.page : pageAddress(o.page, "--page");
        say(
          "or in a browser with WebGPU, by this link; send it as you would a password: who has it works as this member",
        );
        terminal.result(invitationLink(page, { url: pages, creds }));
      } else if (o.page !== null) {
        const why = folder.server.pages ? "its pages label only: give --labels" : "it was made without --browsers";
        throw new UserError(`no page can work in ${path}: ${why}`);
      }
    } else if (o.action === "revoke") {
      const { account } = await folder.revoke(o.member as string);
      await tellServer(await access("system"), account).catch((error: Error) => {
        throw new UserError(
          `${o.member} is revoked in ${join(path, CONFIGURATION)}, but the running server was not told: ${error.message}. Restart ` +
            "it, or revoke again when it answers",
          { cause: error },
        );
      });
      say(`${o.member} is revoked: its connections are closed, and it gets no new one`);
    } else {
      const connection = await connectCluster(await access("trainer"), "webrlhf cluster status");
      try {
        tellStatus(await statusOf(connection), folder, terminal);
      } finally {
        await connection.nc.close();
      }
    }
  },
});

/** Lets people in who label, by a link, and by a room's code where its folder is known. */
async function inviteLabellers(
  o: ReturnType<typeof clusterVerbSettings>,
  folder: ClusterFolder,
  url: string,
  terminal: Terminal,
): Promise<void> {
  const say = (line: string) => terminal.line(line);
  const { pages } = folder.server;
  const address = pagesAddressOf(folder.server, o.cluster);
  if (!pages || address === null) {
    throw new UserError(
      `people label in pages, and none may come into ${folder.path}: make a cluster with webrlhf cluster init --browsers --labels`,
    );
  }
  const page = o.page === null ? labelPageOf(pages) : pageAddress(o.page, "--page", true);
  const name = o.member ?? freeName(Object.keys(folder.members));
  const code = o.roomsDir === null ? null : newRoomCode(randomInt);
  const room = code === null ? null : absolute(join(o.roomsDir as string, roomFile(code)));
  const { creds, member } = await folder.invite("labeller", name, {
    seconds: Math.round(o.minutes * 60),
    ...(o.label !== null && { label: o.label }),
    ...(room !== null && { room }),
  });
  const link = invitationLink(page, { url: address, creds });
  say(`${name} may label until ${new Date((member.expires as number) * 1000).toISOString()}, and do nothing else`);
  if (room !== null) {
    const files = await diskFiles();
    // A server of files that shows what is in a folder would show the codes.
    await files.writeFile(join(o.roomsDir as string, "index.html"), "");
    await files.writeFile(room, `${link}\n`);
    if (basename(absolute(o.roomsDir as string)) !== ROOMS) {
      say(
        terminal.style(
          "yellow",
          `pages look for rooms in ${new URL(`${ROOMS}/`, page).href}: ${o.roomsDir} has to be that folder`,
        ),
      );
    }
    say(`the room's code is ${code}, at ${page}; or as a link that people can click:`);
    terminal.result(`${page}#room=${code}`);
  } else {
    say("by this link; who has it labels as this member, each under a name of their own:");
    terminal.result(link);
  }
  say(
    `labels are asked for with webrlhf label FILE --output_file labels.jsonl --cluster ${url} --creds ${join(folder.path, "trainer.creds")}`,
  );
}

interface Choices {
  host: string;
  websocketPort: number;
  tlsCert: string | null;
  page: string | null;
  origins: readonly string[] | null;
  labels: boolean;
}

const pagesFrom = (o: Choices, name: (choice: "page" | "origins") => string = (choice) => `--${choice}`): PagesChoice =>
  pagesOf(
    {
      host: o.host,
      port: o.websocketPort,
      encrypted: o.tlsCert !== null,
      page: o.page,
      origins: o.origins,
      labels: o.labels,
    },
    name,
  );

function freeName(taken: readonly string[]): string {
  for (let i = 1; ; i++) if (!taken.includes(`guest-${i}`)) return `guest-${i}`;
}

/** Whether the server that is installed here knows of `sync_interval`; where none is, it is taken for a recent one. */
function serverSyncs(terminal: Terminal): boolean {
  const { status, stdout } = spawnSync("nats-server", ["--version"], { encoding: "utf8" });
  if (status !== 0) {
    terminal.line("nats-server is not on the PATH here: get it with apt, brew, or from nats.io; version 2.10 or later");
    return true;
  }
  const [, major, minor] = /v?(\d+)\.(\d+)/.exec(stdout) ?? [];
  return Number(major) > 2 || Number(minor) >= 10;
}

function tellStatus(
  { server, runs, waiting, underWay, results, workers }: Awaited<ReturnType<typeof statusOf>>,
  folder: ClusterFolder,
  terminal: Terminal,
): void {
  terminal.result(
    `nats-server ${server}: ${waiting} jobs wait, ${underWay} are under way, ${results} results are kept`,
  );
  for (const { run, learner, who } of runs) {
    terminal.result(`run ${run}, trained by ${who}${learner === null ? "" : ` as learner ${learner}`}`);
  }
  if (runs.length === 0) terminal.result("no run: start a trainer with --cluster and --creds");
  for (const { worker, member, adapter, webrlhf, done, tokensPerSecond, busy, standsBy } of workers) {
    const at = busy ? "drawing" : standsBy ? "standing by" : "waiting";
    const pace = `${done} jobs done, ${tokensPerSecond} tokens/s, ${at}`;
    terminal.result(`worker ${worker} (${member}): ${pace}; webrlhf ${webrlhf} on ${adapter}`);
  }
  if (workers.length === 0)
    terminal.result("no worker: start one with webrlhf worker --cluster URL --creds worker.creds");
  const now = Date.now() / 1000;
  for (const [name, { role, expires, revoked, label }] of Object.entries(folder.members)) {
    if (role === "system") continue;
    const until =
      expires === undefined ? "" : `, ${expires < now ? "expired" : "until"} ${new Date(expires * 1000).toISOString()}`;
    const about = label === undefined ? "" : ` (${label})`;
    terminal.result(`member ${name}${about}: ${role}${revoked === undefined ? until : ", revoked"}`);
  }
}
