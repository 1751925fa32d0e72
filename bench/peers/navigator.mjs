// Gives Node what the peers expect of a browser: navigator.gpu, and on Node 20 the iterator helpers.
import { create, globals } from "webgpu";

// Dawn's instance must outlive everything made from it, so it stays in a module variable.
const gpu = create([]);

/**
 * @param calmly how a call of Dawn's is waited for, see src/gpu/ticks.ts: everybody waits in the same way, or those who let
 *   Dawn poll give it a core that the kernels of a CPU adapter lack
 */
export function provideNavigator(calmly) {
  replace(gpu, "requestAdapter", async (ask) => {
    const adapter = await ask();
    replace(adapter, "requestDevice", async (ask) => {
      const device = await ask();
      const { queue } = device;
      replace(queue, "onSubmittedWorkDone", calmly);
      Object.defineProperty(device, "queue", { value: queue });
      replace(device, "createBuffer", (make) => {
        const buffer = make();
        replace(buffer, "mapAsync", calmly);
        return buffer;
      });
      return device;
    });
    return adapter;
  });
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

/** Puts `around` around a method of one object; it is given the call. */
function replace(object, name, around) {
  if (!object || Object.hasOwn(object, name)) return;
  const method = object[name];
  object[name] = (...given) => around(() => method.apply(object, given));
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
