/** Errors on their way between a worker and its page. A structured clone keeps neither their class nor that a user can mend them. */
import { isUserError, UserError } from "../runtime/errors.ts";

/** An error as it is sent. */
export interface SentError {
  name: string;
  message: string;
  stack?: string;
}

/** What is sent of an error. */
export function sent(error: unknown): SentError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const { name, message, stack } = error;
  return { name: isUserError(error) ? "UserError" : name, message, ...(stack !== undefined && { stack }) };
}

/** The error that was sent: a UserError where it was one. */
export function received({ name, message, stack }: SentError): Error {
  if (name === "AbortError") return new DOMException(message, name);
  const error = name === "UserError" ? new UserError(message) : new Error(message);
  error.name = name;
  if (stack !== undefined) error.stack = stack;
  return error;
}
