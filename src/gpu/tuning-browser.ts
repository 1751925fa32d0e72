/** Where a browser keeps which kernels are fastest on its adapter: a database of this origin. */
import type { TuningStore } from "./found-adapter.ts";

const [DATABASE, STORE] = ["webrlhf-kernels", "tuning"];

/** The entry of an adapter; undefined where the page may keep nothing. */
export function tuningInBrowser(adapter: string): TuningStore | undefined {
  if (typeof indexedDB === "undefined") return undefined;
  return {
    where: "the tuning in this browser",
    read: async () => (await ask("readonly", (store) => store.get(adapter))) ?? null,
    write: async (tuning) => void (await ask("readwrite", (store) => store.put(tuning, adapter))),
  };
}

async function ask<R>(mode: IDBTransactionMode, request: (store: IDBObjectStore) => IDBRequest<R>): Promise<R> {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await settled(opening);
  try {
    return await settled(request(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

const settled = <R>(request: IDBRequest<R>): Promise<R> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
