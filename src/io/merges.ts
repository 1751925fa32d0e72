/**
 * The merges that a SentencePiece vocabulary implies: every way to put a token together from two others, best token
 * first. Then byte-pair encoding by merges finds the tokens that SentencePiece finds by scores.
 * @param vocab ids by token
 * @param scores by id, higher is better
 */
export function impliedMerges(vocab: ReadonlyMap<string, number>, scores: ArrayLike<number>): [string, string][] {
  const found: { left: string; right: string; score: number; sizes: number }[] = [];
  for (const [token, id] of vocab) {
    const points = Array.from(token);
    if (points.length < 2) continue;
    const local: { left: string; right: string; ids: number; leftSize: number }[] = [];
    let at = 0;
    for (let n = 1; n < points.length; n++) {
      at += points[n - 1].length;
      const left = token.slice(0, at);
      const leftId = vocab.get(left);
      const rightId = leftId === undefined ? undefined : vocab.get(token.slice(at));
      if (leftId === undefined || rightId === undefined) continue;
      local.push({ left, right: token.slice(at), ids: leftId * 2 ** 22 + rightId, leftSize: n });
    }
    local.sort((a, b) => a.ids - b.ids);
    for (const { left, right, leftSize } of local) {
      // Of equally good ones the longer left part comes first, then the longer right part.
      found.push({ left, right, score: scores[id], sizes: leftSize * 65536 + (points.length - leftSize) });
    }
  }
  found.sort((a, b) => b.score - a.score || b.sizes - a.sizes);
  return found.map(({ left, right }) => [left, right]);
}
