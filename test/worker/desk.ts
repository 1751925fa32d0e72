/** Sessions whose worker is the other end of a channel in this process, and can be ended like one. */
import { type Files, memoryFiles, UserError } from "webrlhf";
import { createSession, type ServeOptions, type SessionOptions, serveSession, type WorkerLike } from "webrlhf/worker";

/** A worker in this process. */
export interface HiredWorker {
  alive: boolean;
  /** Ends it as a crash does: nothing that it does afterwards is heard or saved. */
  end(why?: string): void;
}

/** A place for saved runs in memory, with claims that go with their worker. */
export class Vault {
  readonly store = new Map<string, Uint8Array>();
  private readonly claims = new Map<string, object>();

  /** The files as a worker sees them: once it was ended it writes nothing any more. */
  files(worker: HiredWorker): Files {
    const { writeFile, writeFiles, writeFolder, append, remove, ...reading } = memoryFiles(this.store);
    const guard =
      <A extends unknown[], R>(write: (...args: A) => Promise<R>) =>
      (...args: A): Promise<R> =>
        worker.alive ? write(...args) : new Promise<R>(() => {});
    return {
      ...reading,
      writeFile: guard(writeFile),
      writeFiles: guard(writeFiles),
      writeFolder: guard(writeFolder),
      append: guard(append),
      remove: guard(remove),
      claim: async (path) => {
        if (this.claims.has(path)) {
          throw new UserError(`${path}: another run, perhaps in another tab, is writing here`);
        }
        this.claims.set(path, worker);
        return async () => void this.claims.delete(path);
      },
    };
  }

  /** Gives back what a worker had. */
  free(worker: object): void {
    for (const [path, holder] of this.claims) if (holder === worker) this.claims.delete(path);
  }
}

/** A session and the workers that it hired. Without a vault nothing can be saved. */
export function desk(
  options: Omit<ServeOptions, "storage">,
  vault: Vault | null = new Vault(),
  session: SessionOptions = {},
) {
  const workers: HiredWorker[] = [];
  const hire = (): WorkerLike => {
    const { port1, port2 } = new MessageChannel();
    const failed: ((event: unknown) => void)[] = [];
    const terminate = () => {
      worker.alive = false;
      port1.close();
      port2.close();
      vault?.free(worker);
    };
    const worker: HiredWorker = {
      alive: true,
      end(message = "it was killed") {
        terminate();
        for (const listener of failed) listener({ message });
      },
    };
    workers.push(worker);
    const storage = async () => {
      if (!vault) throw new Error("no storage here");
      return vault.files(worker);
    };
    serveSession(
      { files: memoryFiles(), ...options, storage },
      {
        postMessage: (message) => worker.alive && port2.postMessage(message),
        addEventListener: (type, listener) => port2.addEventListener(type, (event) => worker.alive && listener(event)),
        start: () => port2.start(),
      },
    );
    return {
      postMessage: (message) => port1.postMessage(message),
      addEventListener: (type, listener) => {
        if (type === "message") port1.addEventListener(type, (event) => worker.alive && listener(event));
        else if (type === "error") failed.push(listener);
      },
      start: () => port1.start(),
      terminate,
    };
  };
  return { session: createSession(hire, session), workers, vault };
}
