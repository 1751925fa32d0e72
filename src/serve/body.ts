/** Reads a request's body: at most so many bytes; of JSON, UTF-8 that is not nested deep. */
import type { IncomingMessage } from "node:http";
import { ApiError, unavailable } from "./errors.ts";

/** No field has more levels; parsers and printers of JSON may run out of stack far beyond them. */
const DEEPEST = 32;
/** All bodies that are being read may hold this many of the largest ones. */
const BODIES_AT_ONCE = 16;
/** Bodies of more are parsed in line. */
const LARGE_BYTES = 64 << 10;

/** Bodies being read: each has a limit, and so have all of them together. */
export class BodyReader {
  private readonly maxBytes: number;
  private readonly setting: string | null;
  private held = 0;
  private line: Promise<void> = Promise.resolve();

  /** @param setting what sets the limit, for whoever may raise it. Default: nothing does */
  constructor(maxBytes: number, setting: string | null = null) {
    this.maxBytes = maxBytes;
    this.setting = setting;
  }

  /** A request's body as JSON. */
  json(request: IncomingMessage): Promise<unknown> {
    return this.read(request, "application/json", (bytes) => parseJson(bytes, "The request body"));
  }

  /** A request's body as it came. */
  bytes(request: IncomingMessage, type: string): Promise<Uint8Array> {
    return this.read(request, type, (bytes) => bytes);
  }

  private async read<R>(request: IncomingMessage, wanted: string, parsed: (bytes: Uint8Array) => R): Promise<R> {
    const type = (request.headers["content-type"] ?? "").split(";")[0].trim().toLowerCase();
    // Forms and plain text are what a page may post anywhere without asking.
    if (type !== wanted) throw new ApiError(415, `The request body must have Content-Type: ${wanted}.`);
    if (request.headers["content-encoding"] !== undefined) {
      throw new ApiError(415, "Encoded request bodies are not supported.");
    }
    const { maxBytes, setting } = this;
    const tooLarge = () =>
      new ApiError(
        413,
        `The request body is larger than ${maxBytes} bytes${setting === null ? "" : ` (${setting})`}.`,
        {
          code: "request_too_large",
        },
      );
    if (Number(request.headers["content-length"] ?? 0) > maxBytes) throw tooLarge();
    const parts: Buffer[] = [];
    let size = 0;
    try {
      await new Promise<void>((resolve, reject) => {
        const done = (act: () => void) => {
          request.off("data", take).off("end", end).off("error", broken).off("close", broken);
          act();
        };
        const take = (part: Buffer) => {
          size += part.length;
          this.held += part.length;
          if (size > maxBytes) done(() => reject(tooLarge()));
          else if (this.held > maxBytes * BODIES_AT_ONCE) {
            done(() => reject(unavailable("The server reads as many request bodies as it can.")));
          } else parts.push(part);
        };
        const end = () => done(resolve);
        const broken = () => done(() => reject(new ApiError(400, "The request ended before its body did.")));
        request.on("data", take).on("end", end).on("error", broken).on("close", broken);
      });
      const work = () => parsed(Buffer.concat(parts));
      return await (size > LARGE_BYTES ? this.inLine(work) : work());
    } finally {
      this.held -= size;
    }
  }

  /** Works on large bodies one after the other, and for a third of the time at most: others have the rest. */
  private inLine<R>(work: () => R): Promise<R> {
    let ms = 0;
    const done = this.line.then(() => {
      const began = performance.now();
      try {
        return work();
      } finally {
        ms = performance.now() - began;
      }
    });
    const rest = () => new Promise<void>((resolve) => setTimeout(resolve, 2 * ms));
    this.line = done.then(rest, rest);
    return done;
  }
}

/**
 * JSON that came from elsewhere.
 * @param what it is, for messages: "The request body"
 * @throws ApiError for bytes that are no UTF-8 or no JSON, and for JSON that is nested deep
 */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ApiError(400, `${what} is not valid UTF-8.`);
  }
  if (depth(bytes) > DEEPEST) {
    throw new ApiError(400, `${what}'s JSON is nested deeper than ${DEEPEST} levels.`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ApiError(400, `We could not parse the JSON body of your request: ${(error as Error).message}`);
  }
}

/** Levels of brackets outside of strings. */
function depth(json: Uint8Array): number {
  const [QUOTE, ESCAPE] = [0x22, 0x5c];
  let level = 0;
  let deepest = 0;
  for (let i = 0; i < json.length; i++) {
    const byte = json[i];
    if (byte === QUOTE) {
      for (i++; i < json.length && json[i] !== QUOTE; i++) if (json[i] === ESCAPE) i++;
    } else if (byte === 0x5b || byte === 0x7b) deepest = Math.max(deepest, ++level);
    else if (byte === 0x5d || byte === 0x7d) level--;
  }
  return deepest;
}
