/** The model of a BPE tokenizer as tokenizer.json has it. */

/** The plain one; `more` says what is otherwise. */
export const bpeModel = <M>(vocab: ReadonlyMap<string, number>, merges: M, more: Record<string, unknown> = {}) => ({
  type: "BPE",
  dropout: null,
  unk_token: null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
  fuse_unk: false,
  byte_fallback: false,
  ignore_merges: false,
  vocab: Object.fromEntries(vocab) as Record<string, number>,
  merges,
  ...more,
});
