import type { ErrorBody } from "../io/openai-types.ts";

/** Messages quote what the client sent, which may be long. */
const LONGEST_MESSAGE = 1000;

/** A request that is answered with an error, in OpenAI's shape. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;
  /** For the Retry-After header. */
  readonly retrySeconds: number | null;

  constructor(
    status: number,
    message: string,
    more: { type?: string; param?: string | null; code?: string | null; retrySeconds?: number } = {},
  ) {
    super(message.length > LONGEST_MESSAGE ? `${message.slice(0, LONGEST_MESSAGE)}...` : message);
    this.status = status;
    this.type = more.type ?? "invalid_request_error";
    this.param = more.param ?? null;
    this.code = more.code ?? null;
    this.retrySeconds = more.retrySeconds ?? null;
  }

  get body(): ErrorBody {
    const { message, type, param, code } = this;
    return { error: { message, type, param, code } };
  }
}

/** A field that is wrong. */
export const badField = (param: string, message: string, code: string | null = null): ApiError =>
  new ApiError(400, message, { param, code });

/** The server cannot take the request now; it may come again. */
export const unavailable = (message: string, retrySeconds = 5): ApiError =>
  new ApiError(503, message, { type: "service_unavailable_error", retrySeconds });

/** The client asks for more than it may have now; it may come again. */
export const tooMany = (message: string, retrySeconds = 2): ApiError =>
  new ApiError(429, message, { type: "rate_limit_error", code: "rate_limit_exceeded", retrySeconds });
