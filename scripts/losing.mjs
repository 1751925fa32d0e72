/** Takes GPU devices away at chosen moments. WebGPU must be there: open a device first. */

/**
 * Counts the moments at which devices can be lost: each submit and each mapping of a buffer, of all devices together.
 * @returns `plan` sets the moments at which the device at work is destroyed, counted from there
 */
export async function losing() {
  let planned = [];
  let count = 0;
  let lost = [];
  /** Destroys the device where its moment has come; a submit is still made, or is not. */
  const moment = (what, device, call) => {
    const due = planned[0] === count++ && device;
    if (!due) return call();
    planned.shift();
    lost.push(`${what} ${count - 1}`);
    const before = what === "submit" && lost.length % 2 === 1;
    if (before) device.destroy();
    const result = call();
    if (!before) device.destroy();
    return result;
  };
  const devices = new WeakMap(); // of queues
  const patch = ({ prototype }, name, make) => {
    prototype[name] = make(prototype[name]);
  };
  patch(
    GPUDevice,
    "createBuffer",
    (create) =>
      function (descriptor) {
        const buffer = create.call(this, descriptor);
        devices.set(this.queue, this);
        if ((descriptor.usage & GPUBufferUsage.MAP_READ) === 0) return buffer;
        const map = buffer.mapAsync;
        buffer.mapAsync = (...asked) => moment("read", this, () => map.apply(buffer, asked));
        return buffer;
      },
  );
  patch(
    GPUQueue,
    "submit",
    (submit) =>
      function (commands) {
        return moment("submit", devices.get(this), () => submit.call(this, commands));
      },
  );
  return {
    plan(moments) {
      planned = [...moments];
      count = 0;
      lost = [];
    },
    passed: () => count,
    happened: () => lost,
  };
}
