/** What the server has to do, and may be away for: whoever asks goes on, and asks again later. */
export class Reach {
  private readonly say: (line: string) => void;
  private away = false;

  /** @param say hears when the server is away, and when it is there again */
  constructor(say: (line: string) => void) {
    this.say = say;
  }

  /** Has the server do something. Returns whether it did. */
  async do(work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      if (this.away) this.say("the cluster's server answers again");
      this.away = false;
      return true;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (!this.away) {
        this.say(`the cluster's server does not answer (${reason}): what is missing is asked for again`);
      }
      this.away = true;
      return false;
    }
  }
}
