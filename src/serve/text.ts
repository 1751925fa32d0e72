/** Text out of a request's tokens: decoded as they come, cut at stop strings. */
import { StopStrings } from "../data/stop-strings.ts";
import type { GenerationRequest, Piece } from "../nn/generation.ts";
import type { TextModel } from "./model.ts";

/** A token with what was measured on it. */
export interface TokenInfo {
  id: number;
  /** Under the softmax of the model's logits; null for a text's first token. */
  logProb: number | null;
  top: { id: number; logProb: number }[];
}

/** Some more text of one sample. */
export interface TextPiece {
  sample: number;
  text: string;
  tokens: TokenInfo[];
  finish: "stop" | "length" | null;
  /** The stop string that ended it. */
  stop: string | null;
}

/**
 * Samples text. A stop string and what follows it are left out; of the tokens, those after the one that completes it.
 * Leaving the loop cancels the request.
 */
export async function* sampleText(
  model: TextModel,
  request: GenerationRequest & { stop?: readonly string[] },
): AsyncGenerator<TextPiece, void, undefined> {
  const generation = model.engine.submit(request);
  yield* followText(model, request, generation);
}

/** The text of a request that was submitted already, here or elsewhere. */
export async function* followText(
  model: Pick<TextModel, "decoder">,
  { ids, samples = 1, stop = [] }: Pick<GenerationRequest, "ids" | "samples"> & { stop?: readonly string[] },
  generation: AsyncIterable<Piece> & { stop(sample: number): void },
): AsyncGenerator<TextPiece, void, undefined> {
  const states = Array.from({ length: samples }, () => ({
    decoder: model.decoder(ids),
    stops: new StopStrings(stop),
  }));
  for await (const piece of generation) {
    const { decoder, stops } = states[piece.sample];
    let text = "";
    let found: string | null = null;
    const tokens: TokenInfo[] = [];
    for (const [i, id] of piece.ids.entries()) {
      const top = piece.top?.[i];
      tokens.push({
        id,
        logProb: piece.logProbs[i],
        top: top ? Array.from(top.ids, (t, k) => ({ id: t, logProb: top.logProbs[k] })) : [],
      });
      const ends = piece.finish === "stop" && i === piece.ids.length - 1;
      const more = stops.push(ends ? "" : decoder.push(id)); // an end token is no text
      text += more.text;
      found = more.stop;
      if (found !== null) break;
    }
    if (found === null && piece.finish) {
      const last = stops.push(decoder.end());
      text += last.text;
      found = last.stop;
      if (found === null) text += stops.end();
    }
    if (found !== null) generation.stop(piece.sample);
    const finish = found !== null ? "stop" : piece.finish;
    if (text !== "" || tokens.length > 0 || finish) yield { sample: piece.sample, text, tokens, finish, stop: found };
  }
}

/** All pieces put together, one for each sample; `given` come before the others. */
export async function wholeTexts(
  samples: number,
  pieces: AsyncIterable<TextPiece>,
  given: readonly TextPiece[] = [],
): Promise<TextPiece[]> {
  const all = Array.from(
    { length: samples },
    (_, sample): TextPiece => ({ sample, text: "", tokens: [], finish: null, stop: null }),
  );
  const add = ({ sample, text, tokens, finish, stop }: TextPiece) => {
    const one = all[sample];
    one.text += text;
    one.tokens.push(...tokens);
    one.finish = finish ?? one.finish;
    one.stop = stop ?? one.stop;
  };
  given.forEach(add);
  for await (const piece of pieces) add(piece);
  return all;
}
