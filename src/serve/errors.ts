import type { ErrorBody } from "../io/openai-types.ts";

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
    super(message);
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
