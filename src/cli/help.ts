/** The layout of `--help`. */
import { Help, type HelpConfiguration } from "commander";

/** Flags up to this many characters stand beside their descriptions; longer ones, with many choices, above them. */
const FLAG_COLUMNS = 34;

/** Descriptions in one column, wrapped to the terminal. */
export const helpLayout = (columns = 100): HelpConfiguration => ({
  helpWidth: Math.min(120, Math.max(80, columns)),
  padWidth: (command, helper) => Math.min(FLAG_COLUMNS, Help.prototype.padWidth.call(helper, command, helper)),
  formatItem(term, width, description, helper) {
    const item = (text: string) => Help.prototype.formatItem.call(helper, text, width, description, helper);
    return helper.displayWidth(term) <= width ? item(term) : `  ${term}\n${item("")}`;
  },
});
