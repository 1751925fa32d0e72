#!/usr/bin/env node
/**
 * What the package shows of itself, entry by entry, as api/*.api.md; a change of it is then seen in review.
 *
 *   node scripts/api.mjs           writes the reports
 *   node scripts/api.mjs --check   fails where a report differs from the code instead
 *
 * Both fail on a type that stands in a public signature and has no public name, and on an exported name whose doc
 * comment is missing or begins with a sentence that points outside itself.
 */
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

/** Beginnings of sentences that say something only beside other text. */
const POINTS_OUTSIDE =
  /^(the (same|other|latter|former|rest)\b|same\b|its?\b|they\b|their\b|these\b|those\b|this\b|that\b|of \b|what\b|which\b|whose\b|as (above|before|below|there|here|in)\b|likewise\b|ditto\b|also\b|and\b|but\b|or\b|so\b|see\b|else\b|instead\b|here\b|there\b|likely\b|whether (it|that|this|they)\b|where (it|that|this|they)\b|how (it|that|this|they)\b|one of (them|these|those)\b)/i;

/** The first sentence of a doc comment, on one line. */
const firstSentence = (text) => /^.*?(?:[.!?](?=\s|$)|$)/s.exec(text.trim())[0].replace(/\s+/g, " ");

/** A program over the declarations that a compiler would write for these files, with all inferred types written out. */
function declarations(files, options) {
  const outDir = path.join(options.rootDir, "..", ".api");
  const emitting = {
    ...options,
    outDir,
    noEmit: false,
    declaration: true,
    emitDeclarationOnly: true,
    incremental: false,
  };
  delete emitting.tsBuildInfoFile;
  const written = new Map();
  ts.createProgram(files, emitting).emit(
    undefined,
    (name, text) => written.set(path.normalize(name), text),
    undefined,
    true,
  );
  const reading = { ...options, noEmit: true, incremental: false, allowImportingTsExtensions: false, paths: {} };
  delete reading.tsBuildInfoFile;
  delete reading.rootDir;
  const host = ts.createCompilerHost(reading);
  const { fileExists, readFile, getSourceFile, directoryExists } = host;
  host.fileExists = (name) => written.has(path.normalize(name)) || fileExists(name);
  host.directoryExists = (name) => path.normalize(name).startsWith(outDir) || directoryExists(name);
  host.readFile = (name) => written.get(path.normalize(name)) ?? readFile(name);
  host.getSourceFile = (name, ...rest) => {
    const text = written.get(path.normalize(name));
    return text === undefined
      ? getSourceFile.call(host, name, ...rest)
      : ts.createSourceFile(name, text, ts.ScriptTarget.ESNext, true);
  };
  const place = (file) => path.join(outDir, path.relative(options.rootDir, file)).replace(/\.ts$/, ".d.ts");
  const program = ts.createProgram(files.map(place), reading, host);
  return { program, place, own: (file) => written.has(path.normalize(file)) };
}

const isHidden = (node) =>
  (ts.canHaveModifiers(node) && ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword)) ||
  (node.name !== undefined && ts.isPrivateIdentifier(node.name));

/** A declaration as the report has it: without comments and without what is private. */
function signature(declaration) {
  const node = ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration;
  const strip = (context) => {
    const visit = (child) => (isHidden(child) ? undefined : ts.visitEachChild(child, visit, context));
    return (root) => ts.visitEachChild(root, visit, context);
  };
  const { transformed } = ts.transform(node, [strip]);
  const printer = ts.createPrinter({ removeComments: true });
  return printer
    .printNode(ts.EmitHint.Unspecified, transformed[0], node.getSourceFile())
    .replace(/^export (declare )?/, "");
}

/**
 * Reads the entries of a package.
 * @param entries the source file behind each entry's name
 * @param options the compiler's, with `rootDir`
 * @returns a report per entry, and what is wrong with them, one line each
 */
export function examine(entries, options) {
  const { program, place, own } = declarations(Object.values(entries), options);
  const checker = program.getTypeChecker();
  const target = (symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol);
  /** Every public symbol under the first name it has. */
  const names = new Map();
  const reports = {};
  const problems = [];
  const exported = Object.entries(entries).map(([entry, file]) => {
    const module = checker.getSymbolAtLocation(program.getSourceFile(place(file)));
    const symbols = module ? checker.getExportsOfModule(module) : [];
    return { entry, symbols: symbols.sort((a, b) => (a.name < b.name ? -1 : 1)) };
  });
  for (const { entry, symbols } of exported) {
    for (const symbol of symbols) if (!names.has(target(symbol))) names.set(target(symbol), `${entry} ${symbol.name}`);
  }

  const forgotten = new Map();
  /** Looks for own types without a public name in what is written below a node. */
  function search(node, by) {
    if (isHidden(node)) return;
    const named = ts.isTypeReferenceNode(node)
      ? node.typeName
      : ts.isExpressionWithTypeArguments(node)
        ? node.expression
        : ts.isTypeQueryNode(node)
          ? node.exprName
          : ts.isImportTypeNode(node)
            ? (node.qualifier ?? null)
            : null;
    const symbol = named && checker.getSymbolAtLocation(named);
    if (symbol) {
      const real = target(symbol);
      const [declaration] = real.declarations ?? [];
      const local = declaration && ts.isTypeParameterDeclaration(declaration);
      if (declaration && !local && own(declaration.getSourceFile().fileName) && !names.has(real) && !isInside(real)) {
        const where = path.basename(declaration.getSourceFile().fileName).replace(/\.d\.ts$/, ".ts");
        if (!forgotten.has(real)) forgotten.set(real, `${by} needs ${real.name} (${where}), which has no public name`);
      }
    }
    ts.forEachChild(node, (child) => search(child, by));
  }
  /** Members of something public are reached through it. */
  const isInside = (symbol) => {
    const parent = symbol.parent && target(symbol.parent);
    return parent !== undefined && names.has(parent);
  };

  for (const [symbol, name] of names) {
    const text = ts.displayPartsToString(symbol.getDocumentationComment(checker));
    const first = firstSentence(text);
    if (first === "") problems.push(`${name} has no doc comment`);
    else if (POINTS_OUTSIDE.test(first)) problems.push(`${name} begins with a sentence that needs another: "${first}"`);
    for (const declaration of symbol.declarations ?? []) search(declaration, name);
  }
  problems.push(...forgotten.values());

  for (const { entry, symbols } of exported) {
    const lines = symbols.map((symbol) => {
      const real = target(symbol);
      const texts = (real.declarations ?? []).map(signature).join("\n");
      return symbol.name === real.name ? texts : `// as ${symbol.name}\n${texts}`;
    });
    reports[entry] = `# ${entry}\n\n\`\`\`ts\n${lines.join("\n\n")}\n\`\`\`\n`;
  }
  return { reports, problems: problems.sort() };
}

function main() {
  const root = path.resolve(import.meta.dirname, "..");
  const { exports } = JSON.parse(fs.readFileSync(path.join(root, "deno.json"), "utf8"));
  const { name } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
  const entries = Object.fromEntries(
    Object.entries(exports).map(([door, file]) => [door.replace(/^\./, name), path.join(root, file)]),
  );
  const config = ts.getParsedCommandLineOfConfigFile(
    path.join(root, "tsconfig.build.json"),
    {},
    {
      ...ts.sys,
      onUnRecoverableConfigFileDiagnostic: ({ messageText }) => {
        throw new Error(ts.flattenDiagnosticMessageText(messageText, "\n"));
      },
    },
  );
  const { reports, problems } = examine(entries, config.options);
  const folder = path.join(root, "api");
  fs.mkdirSync(folder, { recursive: true });
  for (const [entry, text] of Object.entries(reports)) {
    const file = path.join(folder, `${path.basename(entry)}.api.md`);
    const before = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
    if (before === text) continue;
    if (process.argv.includes("--check")) {
      problems.push(
        `api/${path.basename(file)} differs from the code: look at what changed with \`npm run api\`, and commit it`,
      );
    } else fs.writeFileSync(file, text);
  }
  for (const problem of problems) console.log(problem);
  const count = Object.values(reports).reduce((sum, text) => sum + text.split("\n\n").length - 2, 0);
  console.log(`${Object.keys(reports).length} entries, ${count} names, ${problems.length} problems`);
  process.exitCode = problems.length > 0 ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
