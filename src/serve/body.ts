/** Reads a request's body: at most so many bytes, UTF-8, JSON. */
import type { IncomingMessage } from "node:http";
import { ApiError } from "./errors.ts";

export async function readJson(request: IncomingMessage, maxBytes: number): Promise<unknown> {
  const type = (request.headers["content-type"] ?? "").split(";")[0].trim().toLowerCase();
  // Forms and plain text are what a page may post anywhere without asking.
  if (type !== "application/json") {
    throw new ApiError(415, "The request body must have Content-Type: application/json.");
  }
  if (request.headers["content-encoding"] !== undefined) {
    throw new ApiError(415, "Encoded request bodies are not supported.");
  }
  const bytes = await readBytes(request, maxBytes);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ApiError(400, "The request body is not valid UTF-8.");
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ApiError(400, `We could not parse the JSON body of your request: ${(error as Error).message}`);
  }
}

async function readBytes(request: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = () =>
    new ApiError(413, `The request body is larger than ${maxBytes} bytes.`, { code: "request_too_large" });
  if (Number(request.headers["content-length"] ?? 0) > maxBytes) throw tooLarge();
  const parts: Buffer[] = [];
  let size = 0;
  return new Promise((resolve, reject) => {
    const done = (act: () => void) => {
      request.off("data", take).off("end", end).off("error", broken).off("close", broken);
      act();
    };
    const take = (part: Buffer) => {
      size += part.length;
      if (size > maxBytes) done(() => reject(tooLarge()));
      else parts.push(part);
    };
    const end = () => done(() => resolve(Buffer.concat(parts)));
    const broken = () => done(() => reject(new ApiError(400, "The request ended before its body did.")));
    request.on("data", take).on("end", end).on("error", broken).on("close", broken);
  });
}
