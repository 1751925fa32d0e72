/** The site's one training worker: opened when a page first needs it, kept from page to page. */
import { createSession, type Session, type SessionDevice } from "webrlhf/worker";

class Training {
  /** The device that the worker has; null until it is known. */
  device: SessionDevice | null = $state.raw(null);
  /** Why nothing can be trained here; empty where it can, as far as is known. */
  lacking = $state("");
  private opened: Session | null = null;

  get session(): Session {
    this.opened ??= createSession(() => new Worker(new URL("../worker.ts", import.meta.url), { type: "module" }));
    return this.opened;
  }

  /** Opens the device. Safe to call often. */
  async open(): Promise<void> {
    if (this.device || this.lacking) return;
    if (!("gpu" in navigator)) {
      this.lacking = isSecureContext
        ? "This browser has no WebGPU."
        : "The page came over an insecure connection, where browsers hide WebGPU.";
      return;
    }
    try {
      this.device = await this.session.device();
    } catch (error) {
      this.lacking = (error as Error).message;
    }
  }
}

export const training = new Training();
