// jax-js on its WebGPU backend.
import { readFileSync } from "node:fs";
import { jaxStep } from "./jaxjs-step.mjs";
import { provideNavigator } from "./navigator.mjs";

export async function openJaxjs({ gpuArm, calmly }) {
  provideNavigator(calmly);
  const jax = await import("@jax-js/jax");
  if (!(await jax.init("webgpu")).includes("webgpu")) throw new Error("the webgpu backend did not start");
  jax.defaultDevice("webgpu");
  const { numpy: np, jit } = jax;
  const manifest = new URL("../package.json", import.meta.resolve("@jax-js/jax"));

  return {
    name: "jax-js",
    version: JSON.parse(readFileSync(manifest, "utf8")).version,

    async matmul({ m, n, k, mode, a, b }) {
      const x = np.array(a).reshape(mode === "TN" ? [k, m] : [m, k]);
      const y = np.array(b).reshape(mode === "NT" ? [n, k] : [k, n]);
      const turned = (array, turn) => (turn ? np.transpose(array) : array);
      const multiply = jit((p, q) => np.matmul(turned(p, mode === "TN"), turned(q, mode === "NT")));
      // Arrays are lazy: a result that is disposed before it was waited for may never be computed.
      let waiting = [];
      const wait = async () => {
        await jax.blockUntilReady(waiting);
        for (const array of waiting) array.dispose();
        waiting = [];
      };
      return {
        name: "jax-js",
        async time(times) {
          const start = performance.now();
          for (let i = 0; i < times; i++) {
            waiting.push(multiply(x.ref, y.ref));
            if (waiting.length === 16) await wait();
          }
          await wait();
          return (performance.now() - start) / 1e3;
        },
        result: () => multiply(x.ref, y.ref).data(),
        dispose() {
          for (const array of [x, y]) array.dispose();
        },
      };
    },

    /** One training step of the small transformer; `result` gives the first losses. */
    async trainStep(model) {
      const { step, wait } = jaxStep(jax, model);
      let last = null;
      return gpuArm("jax-js", {
        enqueue() {
          last?.dispose();
          last = step();
        },
        wait,
        async result() {
          const losses = [];
          for (let i = 0; i < model.checkSteps; i++) losses.push((await step().data())[0]);
          return losses;
        },
      });
    },
  };
}
