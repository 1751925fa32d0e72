/** A file that was given to one page of the site and belongs on another: it goes along when that page is opened. */
let waiting: File | null = null;

export const handOver = (file: File): void => {
  waiting = file;
};

/** Takes the file, once. */
export function handed(): File | null {
  const file = waiting;
  waiting = null;
  return file;
}
