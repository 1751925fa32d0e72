/** Draws points of the judge's space: instanced quads that face the viewer, in one draw call, on a device of its own. */
import { mat4 } from "wgpu-matrix";
import { FLOATS, groundOf, type Orbit } from "./space.ts";

const shader = /* wgsl */ `
struct View { clip: mat4x4f, right: vec4f, up: vec4f, ink: vec4f };
@group(0) @binding(0) var<uniform> view: View;
struct Corner { @builtin(position) at: vec4f, @location(0) place: vec2f, @location(1) truth: f32, @location(2) @interpolate(flat) shape: u32 };

@vertex fn corner(
  @builtin(vertex_index) i: u32, @location(0) centre: vec3f, @location(1) truth: f32, @location(2) shape: f32,
) -> Corner {
  let place = vec2f(f32(i & 1u), f32(i >> 1u)) * 2.0 - 1.0;
  let world = centre + (view.right.xyz * place.x + view.up.xyz * place.y) * view.right.w * select(1.0, 0.25, shape > 8.0);
  return Corner(view.clip * vec4f(world, 1.0), place, truth, u32(shape));
}

// Blue, grey, orange: told apart by those who see no red or green.
fn colour(truth: f32) -> vec3f {
  let low = vec3f(0.85, 0.37, 0.01); let mid = vec3f(0.55, 0.55, 0.6); let high = vec3f(0.0, 0.4, 0.75);
  return select(mix(mid, high, truth * 2.0 - 1.0), mix(low, mid, truth * 2.0), truth < 0.5);
}

@fragment fn point(in: Corner) -> @location(0) vec4f {
  let round = length(in.place);
  let square = abs(in.place.x) + abs(in.place.y);
  let inside = select(square, round, in.shape == 0u);
  if (inside > 1.0) { discard; }
  // A rim of the page's ink around every shape but the first cloud's, and truth by lightness as well.
  let rim = in.shape > 0u && in.shape < 9u && inside > 0.72;
  return vec4f(select(colour(in.truth), view.ink.rgb, rim), 1.0);
}`;

/** The size of a point in the cube of -1 to 1. */
const POINT = 0.045;
const UNIFORMS = 28 * 4;

/** A canvas with points on it. */
export interface SpaceView {
  show(instances: Float32Array): void;
  draw(orbit: Orbit): void;
  destroy(): void;
}

/**
 * Opens a view; null where there is no WebGPU for it. The device is no other's: what is trained does not wait for what is drawn.
 * @param lost called when the device is lost, with nothing drawn from then on
 */
export async function openSpace(canvas: HTMLCanvasElement, lost: () => void): Promise<SpaceView | null> {
  const adapter = await navigator.gpu?.requestAdapter();
  const device = await adapter?.requestDevice();
  const context = canvas.getContext("webgpu");
  if (!device || !context) {
    device?.destroy();
    return null;
  }
  let alive = true;
  void device.lost.then(() => {
    if (alive) lost();
    alive = false;
  });
  const format = navigator.gpu.getPreferredCanvasFormat();
  context.configure({ device, format, alphaMode: "premultiplied" });
  const module = device.createShaderModule({ code: shader });
  const pipeline = device.createRenderPipeline({
    layout: "auto",
    vertex: {
      module,
      buffers: [
        {
          arrayStride: FLOATS * 4,
          stepMode: "instance",
          attributes: [
            { shaderLocation: 0, offset: 0, format: "float32x3" },
            { shaderLocation: 1, offset: 12, format: "float32" },
            { shaderLocation: 2, offset: 16, format: "float32" },
          ],
        },
      ],
    },
    fragment: { module, targets: [{ format }] },
    primitive: { topology: "triangle-strip" },
    depthStencil: { format: "depth24plus", depthWriteEnabled: true, depthCompare: "less" },
  });
  const uniforms = device.createBuffer({ size: UNIFORMS, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [{ binding: 0, resource: { buffer: uniforms } }],
  });
  let points: GPUBuffer | null = null;
  let depth: GPUTexture | null = null;
  let count = 0;

  return {
    show(instances) {
      if (!alive) return;
      points?.destroy();
      const all = Float32Array.of(...groundOf(), ...instances);
      count = all.length / FLOATS;
      points = device.createBuffer({
        size: all.byteLength,
        usage: GPUBufferUsage.VERTEX | GPUBufferUsage.COPY_DST,
      });
      device.queue.writeBuffer(points, 0, all);
    },
    draw(orbit) {
      if (!alive || !points || canvas.width === 0 || canvas.height === 0) return;
      if (depth?.width !== canvas.width || depth.height !== canvas.height) {
        depth?.destroy();
        depth = device.createTexture({
          size: [canvas.width, canvas.height],
          format: "depth24plus",
          usage: GPUTextureUsage.RENDER_ATTACHMENT,
        });
      }
      device.queue.writeBuffer(uniforms, 0, viewOf(orbit, canvas));
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginRenderPass({
        colorAttachments: [
          {
            view: context.getCurrentTexture().createView(),
            loadOp: "clear",
            storeOp: "store",
            clearValue: [0, 0, 0, 0],
          },
        ],
        depthStencilAttachment: {
          view: depth.createView(),
          depthLoadOp: "clear",
          depthStoreOp: "discard",
          depthClearValue: 1,
        },
      });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.setVertexBuffer(0, points);
      pass.draw(4, count);
      pass.end();
      device.queue.submit([encoder.finish()]);
    },
    destroy() {
      alive = false;
      device.destroy();
    },
  };
}

/** The uniforms: from world to clip, and where right and up are, so that quads face the viewer. */
function viewOf({ turn, tilt, near }: Orbit, canvas: HTMLCanvasElement): Float32Array<ArrayBuffer> {
  const far = 4.6 / near;
  const eye = [far * Math.cos(tilt) * Math.sin(turn), far * Math.sin(tilt), far * Math.cos(tilt) * Math.cos(turn)];
  const seen = mat4.lookAt(eye, [0, 0, 0], [0, 1, 0]);
  const clip = mat4.multiply(mat4.perspective(Math.PI / 4.5, canvas.width / canvas.height, 0.1, 40), seen);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const ink = dark ? [0.9, 0.92, 0.94, 1] : [0.1, 0.12, 0.15, 1];
  const out = new Float32Array(UNIFORMS / 4);
  out.set(clip, 0);
  out.set([seen[0], seen[4], seen[8], POINT], 16);
  out.set([seen[1], seen[5], seen[9], 0], 20);
  out.set(ink, 24);
  return out;
}
