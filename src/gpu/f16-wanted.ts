/** Whether half precision is to be used where there is any. */
import { environment } from "../runtime/environment.ts";
import { UserError } from "../runtime/errors.ts";

/** "trusted": without a trial, where one would be made. The variable WEBRLHF_F16 decides before the option. */
export function f16Wanted(option = true): boolean | "trusted" {
  const said = environment("WEBRLHF_F16");
  if (!said) return option;
  if (said === "off") return false;
  if (said === "on") return option && "trusted";
  throw new UserError(`WEBRLHF_F16 is "${said}": it must be on or off`);
}
