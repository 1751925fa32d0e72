/** The verbs that are no training methods, with what each does in a line: all that a list of them needs. */

export const summaries = {
  generate: "Sample responses from a model",
  chat: "Talk with a model; answers appear as they are sampled",
  serve: "Serve a model over HTTP, as OpenAI's clients expect it",
  score: "Add a reward model's scores to the rows of a file",
  annotate: "Score files of responses by a reward model, a pair-preference model, an endpoint or the true reward",
  label: "Let people in pages say which of two answers is better, each pair once or several times",
  pairs: "Choose a better and a worse answer among each prompt's scored responses, for dpo and reward",
  evaluate: "Measure a policy's responses, or a reward model's accuracy, on held-out data",
  watch:
    "Follow runs on a page of this machine: curves, responses, what is wrong in words; pause, stop and change them",
  control: "Pause, continue, save or stop a run at work, or change its learning rate or KL weight",
  report: "Make report.html and summary.json of finished runs",
  export: "Make a recording of training runs that the site's replay page shows",
  figure: "Draw metrics of several runs into one SVG file, with their numbers as JSON",
  "gpu-day": "Check and time kernels, generation and training on this machine's GPU, for a table that people share",
  tune: "Find the fastest kernels for this machine's adapter; later runs use them",
  data: "Show, describe, prepare and convert datasets",
  tokenizer: "Train a byte-level BPE tokenizer",
  merge: "Put an adapter into its base: a model folder like any other",
  convert: "Rewrite a model's files: another float type, shards, GGUF out of a folder or the other way round",
  push: "Put a model's folder on the hub, with its card",
  worker: "Draw responses for a trainer on another machine",
  cluster: "Set up, watch and let workers into a cluster that draws a trainer's responses",
  run: "Run a recipe: several stages in order",
  doctor: "Show the runtime, the adapter and its speed, what is missing, and whether a training run would fit",
} as const;
