/**
 * An error the person at the keyboard can fix: a wrong path, a malformed file, a missing adapter.
 *
 * The message says what happened, where (file and line, tensor, option) and what to do about it.
 * Programs print it without a stack trace and end with exit code 1; every other error is a defect
 * of this library and keeps its stack.
 */
export class UserError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "UserError";
  }
}

/** True for a UserError, also for one from a second copy of this module (another bundle or realm). */
export function isUserError(error: unknown): error is UserError {
  return error instanceof Error && error.name === "UserError";
}
