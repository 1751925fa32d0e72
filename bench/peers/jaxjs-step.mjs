// One training step of a Llama-style decoder in jax-js, compiled as a whole by its jit: loss, gradients and AdamW.
// Weights lie as [in, out], the layout its matmul reads contiguously. The embedding is a gather; the loss picks its
// targets by a one-hot product, because gather's gradient does not compile under jit where its input is fused (0.1.25).

/**
 * @param jax the module
 * @param model { config, weights: name -> { shape, data }, ids, targets, rows, length, adamw }, names as in Hugging Face
 */
export function jaxStep(jax, { config, weights, ids, targets, rows, length, adamw }) {
  const { numpy: np, nn, jit, valueAndGrad, tree } = jax;
  const { vocabSize, layers, heads, headDim, ropeTheta, normEps } = config;
  const tokens = rows * length;

  const load = (name) => np.array(weights[name].data).reshape(weights[name].shape);
  const loadMatrix = (name) => np.transpose(load(name));
  let params = {
    embed: load("model.embed_tokens.weight"),
    norm: load("model.norm.weight"),
    layers: Array.from({ length: layers }, (_, i) => {
      const at = `model.layers.${i}`;
      return {
        attentionNorm: load(`${at}.input_layernorm.weight`),
        q: loadMatrix(`${at}.self_attn.q_proj.weight`),
        k: loadMatrix(`${at}.self_attn.k_proj.weight`),
        v: loadMatrix(`${at}.self_attn.v_proj.weight`),
        o: loadMatrix(`${at}.self_attn.o_proj.weight`),
        mlpNorm: load(`${at}.post_attention_layernorm.weight`),
        gate: loadMatrix(`${at}.mlp.gate_proj.weight`),
        up: loadMatrix(`${at}.mlp.up_proj.weight`),
        down: loadMatrix(`${at}.mlp.down_proj.weight`),
      };
    }),
  };
  const { cos, sin } = ropeTables(np, length, headDim, ropeTheta);

  const rmsNorm = (x, weight) => {
    const rms = np.sqrt(np.mean(np.square(x.ref), -1, { keepdims: true }).add(normEps));
    return x.div(rms).mul(weight);
  };
  const rope = (x, c, s) => {
    const [a, b] = np.split(x, 2, 3);
    return np.concatenate([a.ref.mul(c.ref).sub(b.ref.mul(s.ref)), b.mul(c).add(a.mul(s))], 3);
  };
  const split = (x) => x.reshape([rows, length, heads, headDim]);

  const lossOf = (p, x, y, c, s) => {
    let h = np.take(p.embed.ref, x, 0);
    for (const layer of p.layers) {
      const a = rmsNorm(h.ref, layer.attentionNorm);
      const q = rope(split(np.matmul(a.ref, layer.q)), c.ref, s.ref);
      const k = rope(split(np.matmul(a.ref, layer.k)), c.ref, s.ref);
      const v = split(np.matmul(a, layer.v));
      const mixed = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([tokens, heads * headDim]);
      h = h.add(np.matmul(mixed, layer.o));
      const m = rmsNorm(h.ref, layer.mlpNorm);
      h = h.add(np.matmul(nn.silu(np.matmul(m.ref, layer.gate)).mul(np.matmul(m, layer.up)), layer.down));
    }
    c.dispose();
    s.dispose();
    const logits = np.matmul(rmsNorm(h, p.norm), np.transpose(p.embed));
    return np.sum(nn.logSoftmax(logits, -1).mul(nn.oneHot(y, vocabSize))).mul(-1 / tokens);
  };

  const { learningRate, beta1, beta2, eps, weightDecay, maxGradNorm } = adamw;
  const update = (p, g, m, v, t) => {
    const [ps, structure] = tree.flatten(p);
    const [gs, ms, vs] = [g, m, v].map((of) => tree.leaves(of));
    let squares = np.array(0);
    for (const grad of gs) squares = squares.add(np.sum(np.square(grad.ref)));
    const clip = np.minimum(np.array(maxGradNorm).div(np.sqrt(squares).add(1e-6)), 1);
    const correct1 = np.array(1).sub(np.power(np.array(beta1), t.ref));
    const correct2 = np.array(1).sub(np.power(np.array(beta2), t.ref));
    const next = { p: [], m: [], v: [] };
    ps.forEach((param, i) => {
      const grad = gs[i].mul(clip.ref);
      const m1 = ms[i].mul(beta1).add(grad.ref.mul(1 - beta1));
      const v1 = vs[i].mul(beta2).add(np.square(grad).mul(1 - beta2));
      const step = m1.ref.div(correct1.ref).div(np.sqrt(v1.ref.div(correct2.ref)).add(eps));
      const decayed = param.ndim > 1 ? param.mul(1 - learningRate * weightDecay) : param;
      next.p.push(decayed.sub(step.mul(learningRate)));
      next.m.push(m1);
      next.v.push(v1);
    });
    for (const array of [clip, correct1, correct2]) array.dispose();
    return [...[next.p, next.m, next.v].map((list) => tree.unflatten(structure, list)), t.add(1)];
  };

  const lossAndGrad = valueAndGrad(lossOf);
  const compiled = jit((p, m, v, t, x, y, c, s) => {
    const [loss, g] = lossAndGrad(tree.ref(p), x, y, c, s);
    return [loss, ...update(p, g, m, v, t)];
  });

  let m = tree.map((param) => np.zeros(param.shape), params);
  let v = tree.map((param) => np.zeros(param.shape), params);
  let t = np.array(1);
  const x = np.array(Int32Array.from(ids), { dtype: np.int32 });
  const y = np.array(Int32Array.from(targets), { dtype: np.int32 });
  return {
    /** Enqueues one step; the caller owns the loss it returns. */
    step() {
      let loss;
      [loss, params, m, v, t] = compiled(params, m, v, t, x.ref, y.ref, cos.ref, sin.ref);
      return loss;
    },
    wait: () => jax.blockUntilReady([params, m, v]),
  };
}

function ropeTables(np, length, headDim, theta) {
  const half = headDim / 2;
  const angles = new Float32Array(length * half);
  for (let i = 0; i < angles.length; i++) angles[i] = Math.floor(i / half) / theta ** ((i % half) / half);
  const table = (fn) => np.array(angles.map(fn)).reshape([1, length, 1, half]);
  return { cos: table(Math.cos), sin: table(Math.sin) };
}
