/**
 * The first key that an object of this JSON text holds twice, or undefined. JSON.parse keeps the last one silently,
 * which in a header would let one tensor hide another.
 * @param text valid JSON (JSON.parse has accepted it)
 */
export function findDuplicateKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = [];
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === OPEN_BRACE) open.push(new Set());
    else if (c === OPEN_BRACKET) open.push(undefined);
    else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) open.pop();
    else if (c === QUOTE) {
      const start = i++;
      while (text.charCodeAt(i) !== QUOTE) i += text.charCodeAt(i) === BACKSLASH ? 2 : 1;
      const keys = open[open.length - 1];
      if (keys && followedByColon(text, i + 1)) {
        const key: string = JSON.parse(text.slice(start, i + 1));
        if (keys.has(key)) return key;
        keys.add(key);
      }
    }
  }
  return undefined;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

function followedByColon(text: string, at: number): boolean {
  let i = at;
  while (i < text.length && /\s/.test(text[i])) i++;
  return text[i] === ":";
}
