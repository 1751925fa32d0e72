/**
 * A kernel is data: a name, a WGSL body with free names, its bindings and its scalars. From that one record come the
 * binding declarations, the scalar struct and the bind-group layout, so TypeScript and WGSL cannot disagree. Sizes and
 * types that specialise a body arrive as prepended `const` and `alias` lines; the body stays plain WGSL.
 */
import { compileAside, type Pipelined } from "./compiling.ts";
import { caps, device, deviceLoss, onClose, watchError } from "./device.ts";
import { type BufferView, isStale } from "./pool.ts";
import { type ScalarType, scalarDeclaration, scalarLayouts } from "./scalars.ts";

export type { ScalarType };

export interface KernelSpec {
  /** Unique, e.g. "rmsnorm_fwd"; appears in errors and profiles. */
  name: string;
  /** WGSL body with free names. */
  code: string;
  /** In binding order: name -> "read T" or "write vec4<f32>": the access and the array's element type. */
  bindings: Record<string, string>;
  /** At most 16 words; WGSL reads them as `u.name`. */
  scalars?: Record<string, ScalarType>;
  /** The body uses subgroup builtins. */
  subgroups?: boolean;
  /** The body uses subgroup matrices. */
  matrices?: boolean;
}

/** Values for the free names: integers become u32 constants, other numbers f32, strings type aliases. */
export type Consts = Record<string, number | boolean | string>;

/** A kernel together with the variants compiled so far: a trie on the constants' names and values in turn. */
export interface Kernel extends KernelSpec {
  readonly scalarTypes: readonly ScalarType[];
  readonly variants: VariantNode;
}

interface VariantNode {
  variant: Variant | null;
  readonly next: Map<Consts[string], VariantNode>;
}

export interface Variant extends Pipelined {
  readonly kernel: Kernel;
  readonly layout: BindLayout;
}

/** Bind groups are shared by every kernel with the same pattern of accesses. */
interface BindLayout {
  readonly count: number;
  /** The bindings that are written. */
  readonly writes: readonly number[];
  readonly layout: GPUBindGroupLayout;
  readonly groups: GroupNode;
}
type GroupNode = Map<number, GroupNode | Known>;

/** A bind group, and which one was asked for after it the last time: steps repeat themselves. */
interface Known {
  readonly layout: BindLayout;
  readonly ids: readonly number[];
  readonly group: GPUBindGroup;
  next: Known | null;
}

/** A kernel with its constants, for callers that ask for the same ones again and again. */
export interface Prepared {
  readonly kernel: Kernel;
  readonly consts: Consts;
  /** Of the open device, once it was asked for. */
  variant: Variant | null;
}

const kernels: Kernel[] = [];
const prepared: Prepared[] = [];
const layouts = new Map<string, BindLayout>();
let latest: Known | null = null;
let bindGroupHits = 0;
let bindGroupMisses = 0;

export const kernelStats = () => ({ bindGroupHits, bindGroupMisses });

/** Declares a kernel. Nothing is compiled until a variant of it runs. */
export function kernel(spec: KernelSpec): Kernel {
  const scalarTypes = Object.values(spec.scalars ?? {});
  if (scalarTypes.length > 16) throw new Error(`kernel ${spec.name}: ${scalarTypes.length} scalars, at most 16 fit`);
  if (Object.keys(spec.bindings).length > 8) throw new Error(`kernel ${spec.name}: more than 8 bindings`);
  const declared: Kernel = { ...spec, scalarTypes, variants: variantNode() };
  kernels.push(declared);
  return declared;
}

const variantNode = (): VariantNode => ({ variant: null, next: new Map() });

/** The compiled variant of a kernel for these constants. Asked before every dispatch: a hit builds no key. */
export function specialize(kernel: Kernel, consts: Consts): Variant {
  let node = kernel.variants;
  for (const name in consts) node = child(child(node, name), consts[name]);
  node.variant ??= compile(kernel, consts);
  return node.variant;
}

/** Keeps a kernel with constants that must not change any more, for as long as the program runs. */
export function prepare(kernel: Kernel, consts: Consts): Prepared {
  const kept = { kernel, consts, variant: null };
  prepared.push(kept);
  return kept;
}

/** The compiled variant of what was prepared. */
export function variantOf(kept: Prepared): Variant {
  kept.variant ??= specialize(kept.kernel, kept.consts);
  return kept.variant;
}

function child({ next }: VariantNode, key: Consts[string]): VariantNode {
  let node = next.get(key);
  if (!node) {
    node = variantNode();
    next.set(key, node);
  }
  return node;
}

// Which matrices a subgroup works on follows from its number, of which the compiler does not know that it is one for all of it.
const MATRICES = [
  "enable chromium_experimental_subgroup_matrix;",
  "diagnostic(off, chromium.subgroup_matrix_uniformity);",
];

/** The complete WGSL of a variant. */
export function source(kernel: Kernel, consts: Consts): string {
  const lines: string[] = [];
  const type = (consts.T as string | undefined) ?? "f32";
  if (Object.values(consts).some((v) => typeof v === "string" && /\bf16\b/.test(v))) lines.push("enable f16;");
  if (kernel.subgroups) lines.push("enable subgroups;");
  if (kernel.matrices) lines.push(...MATRICES);
  lines.push(`alias T = ${type};`, "alias T4 = vec4<T>;", "alias A4 = vec4<f32>;");
  for (const [name, value] of Object.entries(consts)) {
    if (name === "T") continue;
    if (typeof value === "string") lines.push(`alias ${name} = ${value};`);
    else if (typeof value === "boolean") lines.push(`const ${name} = ${value};`);
    else lines.push(`const ${name} = ${Number.isInteger(value) && value >= 0 ? `${value}u` : `f32(${value})`};`);
  }
  Object.entries(kernel.bindings).forEach(([name, spec], i) => {
    const [access, element] = splitBinding(spec);
    const mode = access === "read" ? "read" : "read_write";
    lines.push(`@group(0) @binding(${i}) var<storage, ${mode}> ${name}: array<${element}>;`);
  });
  if (kernel.scalars) lines.push(scalarDeclaration(kernel.scalars));
  lines.push("fn linearId(wid: vec3u, nwg: vec3u) -> u32 { return wid.y * nwg.x + wid.x; }");
  return `${lines.join("\n")}\n${kernel.code}`;
}

/** A variant whose compilation has begun. */
function compile(kernel: Kernel, consts: Consts): Variant {
  const gpu = device();
  const code = source(kernel, consts);
  let key = "";
  for (const name in consts) key += `${name}=${consts[name]};`;
  const label = key ? `${kernel.name} {${key}}` : kernel.name;
  gpu.pushErrorScope("validation");
  const module = gpu.createShaderModule({ label, code });
  const layout = bindLayout(kernel);
  const wanted: GPUComputePipelineDescriptor = {
    label,
    layout: gpu.createPipelineLayout({ bindGroupLayouts: [layout.layout, ...scalarLayouts()], ...immediateSize() }),
    compute: { module, entryPoint: "main" },
  };
  const refused = gpu.popErrorScope();
  const variant: Variant = { kernel, pipeline: null, layout };
  const failed = compileAside(variant, wanted);
  watchError(
    Promise.all([refused, failed]).then(async ([invalid, error]) => {
      if (!invalid && !error) return null;
      const lost = invalid ? null : await deviceLoss(gpu);
      return lost ?? explain(gpu, label, code, module, (invalid ?? error) as { message: string });
    }),
  );
  return variant;
}

// 64 bytes for every pipeline, so that immediates survive a change of pipeline.
const immediateSize = () => (caps().immediates ? { immediateSize: 64 } : {});

async function explain(
  gpu: GPUDevice,
  label: string,
  code: string,
  module: GPUShaderModule,
  error: { message: string },
): Promise<Error> {
  const asked = module.getCompilationInfo?.().catch(() => null);
  gpu.queue.submit([]); // Chromium sends the question along with the next commands
  const info = await asked;
  const messages = (info?.messages ?? []).map((m) => `  ${m.lineNum}:${m.linePos} ${m.type}: ${m.message}`);
  const numbered = code.split("\n").map((line, i) => `${String(i + 1).padStart(4)} ${line}`);
  return new Error([`kernel ${label} did not compile: ${error.message}`, ...messages, ...numbered].join("\n"));
}

function splitBinding(spec: string): [access: string, element: string] {
  const at = spec.indexOf(" ");
  return [spec.slice(0, at), spec.slice(at + 1)];
}

function bindLayout(kernel: Kernel): BindLayout {
  const accesses = Object.values(kernel.bindings).map((spec) => splitBinding(spec)[0]);
  const key = accesses.join();
  let found = layouts.get(key);
  if (!found) {
    const layout = device().createBindGroupLayout({
      label: key,
      entries: accesses.map((access, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: access === "read" ? "read-only-storage" : "storage" },
      })),
    });
    const writes = accesses.flatMap((access, i) => (access === "read" ? [] : [i]));
    found = { count: accesses.length, writes, layout, groups: new Map() };
    layouts.set(key, found);
  }
  return found;
}

/** The cached bind group of a variant for these buffers: the one that followed the last time, or a trie on view ids. */
export function bindGroup(variant: Variant, views: readonly BufferView[]): GPUBindGroup {
  const { layout } = variant;
  const guess = latest?.next;
  if (guess && guess.layout === layout && isOf(guess, views)) {
    bindGroupHits += 1;
    latest = guess;
    return guess.group;
  }
  const found = known(variant, views);
  if (latest) latest.next = found;
  latest = found;
  return found.group;
}

function isOf({ ids }: Known, views: readonly BufferView[]): boolean {
  if (views.length !== ids.length) return false;
  for (let i = 0; i < ids.length; i++) if (views[i].id !== ids[i]) return false;
  return true;
}

function known({ kernel, layout: own }: Variant, views: readonly BufferView[]): Known {
  const { count, layout, groups } = own;
  if (views.length !== count) throw new Error(`kernel ${kernel.name} takes ${count} buffers, got ${views.length}`);
  let node = groups;
  for (let i = 0; i < count - 1; i++) {
    let next = node.get(views[i].id) as GroupNode | undefined;
    if (!next) {
      next = new Map();
      node.set(views[i].id, next);
    }
    node = next;
  }
  const last = views[count - 1].id;
  const hit = node.get(last) as Known | undefined;
  if (hit) {
    bindGroupHits += 1;
    return hit;
  }
  bindGroupMisses += 1;
  if (views.some(isStale)) throw new Error(`kernel ${kernel.name} got a tensor of a device that was closed`);
  const group = device().createBindGroup({
    label: kernel.name,
    layout,
    entries: views.map(({ buffer, offset, size }, binding) => ({ binding, resource: { buffer, offset, size } })),
  });
  const made: Known = { layout: own, ids: views.map(({ id }) => id), group, next: null };
  node.set(last, made);
  return made;
}

/** Forgets the bind groups of these buffers and their parts; needed before they are destroyed. */
export function dropBindGroups(views: readonly BufferView[]): void {
  const gone = new Set<number>();
  const add = ({ id, children }: BufferView) => {
    gone.add(id);
    for (const child of children?.values() ?? []) add(child);
  };
  views.forEach(add);
  latest = null;
  for (const { groups } of layouts.values()) prune(groups, gone);
}

function prune(node: GroupNode, gone: ReadonlySet<number>): void {
  for (const [id, next] of node) {
    if (gone.has(id)) {
      node.delete(id);
      unlink(next);
    } else if (next instanceof Map) {
      prune(next, gone);
      if (next.size === 0) node.delete(id);
    }
  }
}

/** Takes what is forgotten out of the chain of what follows what, so that it keeps nothing else alive. */
function unlink(node: GroupNode | Known): void {
  if (node instanceof Map) for (const next of node.values()) unlink(next);
  else node.next = null;
}

onClose({
  forget() {
    for (const { variants } of kernels) {
      variants.variant = null;
      variants.next.clear();
    }
    for (const kept of prepared) kept.variant = null;
    layouts.clear();
    latest = null;
  },
  setAside() {
    const compiled = kernels.map(({ variants }) => ({ variants, variant: variants.variant, next: [...variants.next] }));
    const known = [...layouts];
    return () => {
      for (const { variants, variant, next } of compiled) {
        variants.variant = variant;
        for (const [key, node] of next) variants.next.set(key, node);
      }
      for (const [key, layout] of known) layouts.set(key, layout);
    };
  },
});
