/** The models that answer questions: one base, held from question to question, and an adapter on it. */
import { openDevice } from "webrlhf";
import type { Tokenizer } from "webrlhf/data";
import type { CausalLM } from "webrlhf/nn";
import { ModelOpener } from "webrlhf/open";
import { studioFiles } from "./places.ts";
import type { Weights } from "./protocol.ts";

export interface Wanted {
  path: string;
  dtype: Weights;
  /** The adapter's folder. */
  adapter: string | null;
}

export interface Around {
  signal: AbortSignal;
  /** Hears how much of a model is on its way to the GPU, in bytes. */
  loading: (model: string, done: number, total: number) => void;
}

class Bench {
  private opener: ModelOpener | null = null;
  private held = "";
  private adapter = "";
  private around: Around | null = null;
  private base: CausalLM | null = null;
  private adapted: CausalLM | null = null;
  private tokenizer: Tokenizer | null = null;

  /** Opens what is wanted and not held, and frees what is held and not wanted. */
  async open(
    { path, dtype, adapter }: Wanted,
    around: Around,
  ): Promise<{ base: CausalLM; adapted: CausalLM | null; tokenizer: Tokenizer }> {
    const key = JSON.stringify([path, dtype]);
    this.around = around;
    if (this.held !== key) this.close();
    try {
      if (!this.opener) {
        await openDevice();
        this.opener = new ModelOpener({
          files: studioFiles,
          dtype,
          baseModelNameOrPath: path,
          signal: around.signal,
          loading: (model, done, total) => this.around?.loading(model, done, total),
        });
        this.tokenizer = await this.opener.tokenizer(path);
        await this.opener.refuseJudge(path);
        this.base = await this.opener.frozenPolicy(path, "model");
        this.tokenizer.checkFits(this.base.config.vocabSize);
        this.held = key;
      }
      if (this.adapter !== (adapter ?? "")) this.dropAdapter();
      if (adapter !== null && !this.adapted) {
        this.adapted = await this.opener.policy(adapter, "adapter");
        this.adapter = adapter;
      }
    } catch (error) {
      this.close();
      throw error;
    }
    return { base: this.base as CausalLM, adapted: this.adapted, tokenizer: this.tokenizer as Tokenizer };
  }

  /** Frees everything. */
  close(): void {
    this.opener?.destroy();
    this.opener = this.base = this.adapted = this.tokenizer = null;
    this.held = this.adapter = "";
  }

  private dropAdapter(): void {
    if (this.opener && this.adapted) {
      const { opened } = this.opener;
      opened.splice(opened.indexOf(this.adapted), 1);
      this.adapted.destroy();
    }
    this.adapted = null;
    this.adapter = "";
  }
}

export const bench = new Bench();
