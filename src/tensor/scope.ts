/**
 * One rule for memory: a tensor dies with the scope that made it, unless the scope returns it. Tensors that the tape
 * still needs move up to the enclosing scope; the outermost scope frees everything and clears the tape. Scopes are
 * synchronous, because forward, backward and step only enqueue work.
 */
import { resetTape } from "./autograd.ts";
import { Tensor } from "./tensor.ts";

const stack: Tensor[][] = [];

/** Called by every new tensor. */
export function adopt(t: Tensor): void {
  if (stack.length > 0) stack[stack.length - 1].push(t);
}

/**
 * Runs `fn` and frees every tensor made inside that is not part of its result. The result may be a tensor, or arrays
 * and plain objects of them. Throws when `fn` returns a promise.
 */
export function scope<R>(fn: () => R): R {
  const made: Tensor[] = [];
  stack.push(made);
  let kept: Set<Tensor> | null = null;
  try {
    const result = fn();
    if (result instanceof Promise) throw new Error("scope() is synchronous: await outside of it");
    kept = collect(result, null, 0);
    return result;
  } finally {
    stack.pop();
    const parent = stack.at(-1);
    if (!parent) resetTape();
    for (const t of made) {
      if (t.freed) continue;
      if (kept?.has(t) || (parent && t.held > 0)) parent?.push(t);
      else t.free("the end of its scope");
    }
  }
}

/** The tensors in a value, added to `found`; null when there are none, as in most scopes inside ops. */
function collect(value: unknown, found: Set<Tensor> | null, depth: number): Set<Tensor> | null {
  if (!value || typeof value !== "object") return found;
  if (value instanceof Tensor) return (found ?? new Set()).add(value);
  if (depth === 5 || ArrayBuffer.isView(value)) return found;
  let all = found;
  for (const child of Array.isArray(value) ? value : Object.values(value)) all = collect(child, all, depth + 1);
  return all;
}
