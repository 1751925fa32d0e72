/** Room codes: short words by which a page finds an invitation, which lies in a file beside the page. */

/** Letters and digits that nobody takes for others. */
const LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ";
/** Of 31 letters each: nobody finds one of some rooms by trying, as long as their invitations hold. */
const LENGTH = 6;

/**
 * A new room's code.
 * @param random a whole number from 0 to below its argument, which nobody can foresee
 */
export const newRoomCode = (random: (below: number) => number): string =>
  Array.from({ length: LENGTH }, () => LETTERS[random(LETTERS.length)]).join("");

/** A code as somebody typed it, in its one form; null where it is none. */
export function roomCode(typed: string): string | null {
  const code = typed
    .slice(0, 100)
    .replace(/[\s-]+/g, "")
    .toUpperCase();
  return code.length === LENGTH && [...code].every((letter) => LETTERS.includes(letter)) ? code : null;
}

/** The folder of rooms, beside the page for labels. */
export const ROOMS = "rooms";
/** The file of a room in that folder, which holds the invitation's link, by its code. */
export const roomFile = (code: string): string => `${code}.txt`;
