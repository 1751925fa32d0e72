/** Something that is waited for until it comes, or for a time. */
export class News {
  private listeners: (() => void)[] = [];

  /** Something has come. */
  tell(): void {
    for (const listener of this.listeners.splice(0)) listener();
  }

  /** Resolves when something comes, when the time is over, or when the signal fires. */
  async wait(ms: number, signal?: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal?.addEventListener("abort", done);
      this.listeners.push(done);
    });
  }
}
