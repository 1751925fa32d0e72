/** Unfolds what is folded away: it would be missing on paper. */
export function unfold(): void {
  for (const details of document.querySelectorAll("main details")) details.setAttribute("open", "");
}
