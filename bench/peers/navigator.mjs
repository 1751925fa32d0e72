// Gives Node what the peers expect of a browser: navigator.gpu, and on Node 20 the iterator helpers.
import { create, globals } from "webgpu";

// Dawn's instance must outlive everything made from it, so it stays in a module variable.
const gpu = create([]);

export function provideNavigator() {
  Object.assign(globalThis, globals);
  if (!globalThis.navigator) {
    const value = { userAgent: `Node.js/${process.versions.node}`, hardwareConcurrency: 1 };
    Object.defineProperty(globalThis, "navigator", { value, configurable: true });
  }
  Object.defineProperty(globalThis.navigator, "gpu", { value: gpu, configurable: true });

  const iterator = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()));
  for (const [name, value] of Object.entries(helpers)) {
    if (!iterator[name]) Object.defineProperty(iterator, name, { value, writable: true, configurable: true });
  }
}

const helpers = {
  *map(fn) {
    let i = 0;
    for (const value of this) yield fn(value, i++);
  },
  *filter(fn) {
    let i = 0;
    for (const value of this) if (fn(value, i++)) yield value;
  },
  toArray() {
    return [...this];
  },
};
