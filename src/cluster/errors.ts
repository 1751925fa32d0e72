/** Why somebody is not in a cluster, or no longer. */
import { UserError } from "../runtime/errors.ts";

/**
 * Reasons that keep somebody out of a cluster. "unreachable": nobody answers at the address, or not to this page. "expired" and "refused":
 * the credential. "version": the trainer's webrlhf is another one. "gpu": the GPU was lost, or its memory does not suffice.
 */
export type Absence = "unreachable" | "expired" | "refused" | "version" | "gpu";

/** An error that says in a word, for programs, what keeps somebody out of a cluster. */
export class ClusterError extends UserError {
  readonly absence: Absence;

  constructor(absence: Absence, message: string, options?: ErrorOptions) {
    super(message, options);
    this.absence = absence;
  }
}
