// Opens a GGUF file with llama.cpp and prints, as JSON, the tokens it makes of a text and those it says next, the likeliest
// each time. Usage: node check_llama_cpp.mjs <folder with node-llama-cpp> <file> <new tokens> <text>
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, file, count, text] = process.argv.slice(2);
const found = createRequire(`${folder}/`).resolve("node-llama-cpp");
const { getLlama } = await import(pathToFileURL(found).href);
const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, logLevel: "error", maxThreads: 1 });
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({ contextSize: 64, threads: 1 });
const prompt = model.tokenize(text);
const sequence = context.getSequence();
const greedy = [];
for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
  greedy.push(token);
  if (greedy.length === Number(count) || model.isEogToken(token)) break;
}
console.log(JSON.stringify({ prompt, greedy, template: model.fileInfo.metadata.tokenizer?.chat_template ?? null }));
await llama.dispose();
process.exit(0);
