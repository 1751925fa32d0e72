/** What a method has found and spent so far, kept in the run's folder so that a run goes on from it. */
import type { Files } from "webrlhf";

/** A look at the held-out prompts: what each prompt's answer is worth. */
export interface Marked {
  step: number;
  gold: number[];
  reward: number[];
}

interface Saved {
  looks: Marked[];
  /** Generated tokens of each step. */
  tokens: Record<number, number>;
  done: boolean;
}

export class Standing {
  private saved: Saved = { looks: [], tokens: {}, done: false };
  private readonly files: Files;
  private readonly path: string;

  private constructor(files: Files, path: string) {
    this.files = files;
    this.path = path;
  }

  static async read(files: Files, path: string): Promise<Standing> {
    const standing = new Standing(files, path);
    const bytes = await files.read(path);
    if (bytes) standing.saved = JSON.parse(new TextDecoder().decode(bytes)) as Saved;
    return standing;
  }

  /** Nothing is left to do. */
  get done(): boolean {
    return this.saved.done;
  }

  get last(): Marked {
    return this.saved.looks[this.saved.looks.length - 1];
  }

  had(step: number): boolean {
    return this.saved.looks.some((look) => look.step === step);
  }

  /** Generated tokens up to a step. A step that is taken once more is counted once. */
  spent(step: number): number {
    return Object.entries(this.saved.tokens).reduce(
      (sum, [at, tokens]) => (Number(at) <= step ? sum + tokens : sum),
      0,
    );
  }

  async spend(step: number, tokens: number): Promise<void> {
    this.saved.tokens[step] = tokens;
    await this.save();
  }

  /** @param done it was the last */
  async add(look: Marked, done: boolean): Promise<void> {
    if (!this.had(look.step)) this.saved.looks.push(look);
    this.saved.done ||= done;
    await this.save();
  }

  async finish(): Promise<void> {
    this.saved.done = true;
    await this.save();
  }

  private save(): Promise<void> {
    return this.files.writeFile(this.path, JSON.stringify(this.saved));
  }
}
