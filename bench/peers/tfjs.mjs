// TensorFlow.js on its WebGPU backend.
import { createRequire } from "node:module";
import { provideNavigator } from "./navigator.mjs";

export async function openTfjs({ gpuArm, calmly }) {
  provideNavigator(calmly);
  // The backend registers itself on import, if it finds navigator.gpu.
  const tf = await import("@tensorflow/tfjs-core");
  await import("@tensorflow/tfjs-backend-webgpu");
  if (!(await tf.setBackend("webgpu"))) throw new Error("the webgpu backend did not start");
  await tf.ready();
  const { device } = tf.backend();

  // Submitting is up to the backend's batching; waiting first submits the rest of a batch.
  const wait = () => {
    tf.backend().endComputePassEncoder?.();
    tf.backend().submitQueue();
    return device.queue.onSubmittedWorkDone();
  };

  return {
    name: "tfjs-webgpu",
    version: createRequire(import.meta.url)("@tensorflow/tfjs-backend-webgpu/package.json").version,

    async matmul({ m, n, k, mode, a, b }) {
      const x = tf.tensor2d(a, mode === "TN" ? [k, m] : [m, k]);
      const y = tf.tensor2d(b, mode === "NT" ? [n, k] : [k, n]);
      const multiply = () => tf.matMul(x, y, mode === "TN", mode === "NT");
      return gpuArm("tfjs-webgpu", {
        enqueue: () => multiply().dispose(),
        wait,
        async result() {
          const c = multiply();
          const data = await c.data();
          c.dispose();
          return data;
        },
        dispose: () => tf.dispose([x, y]),
      });
    },
  };
}
