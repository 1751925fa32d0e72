/** Throws unless the text is well-formed XML (elements, attributes, text; what the report uses). */
export function checkXml(text: string): void {
  const open: string[] = [];
  let rest = text.trim();
  let roots = 0;
  while (rest !== "") {
    const where = () => JSON.stringify(rest.slice(0, 60));
    const tag = /^<(\/?)([A-Za-z][\w-]*)((?:\s+[A-Za-z][\w:-]*="[^"<]*")*)\s*(\/?)>/.exec(rest);
    if (tag) {
      const [all, closing, name, attributes, selfClosing] = tag;
      const names = [...attributes.matchAll(/([\w:-]+)="/g)].map((match) => match[1]);
      if (new Set(names).size !== names.length) throw new Error(`attribute given twice: ${where()}`);
      checkText(attributes);
      if (closing) {
        if (open.pop() !== name) throw new Error(`closes what is not open: ${where()}`);
      } else {
        if (open.length === 0 && ++roots > 1) throw new Error(`second root: ${where()}`);
        if (!selfClosing) open.push(name);
      }
      rest = rest.slice(all.length);
      continue;
    }
    const words = /^[^<]+/.exec(rest);
    if (!words || open.length === 0) throw new Error(`not well-formed: ${where()}`);
    checkText(words[0]);
    rest = rest.slice(words[0].length);
  }
  if (open.length > 0) throw new Error(`left open: ${open.join(" ")}`);
  if (roots !== 1) throw new Error("no root element");
}

function checkText(text: string): void {
  const stray = /&(?!(amp|lt|gt|quot|#39);)/.exec(text);
  if (stray) throw new Error(`stray &: ${text.slice(stray.index, stray.index + 40)}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: XML forbids these
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/.test(text)) throw new Error("control character");
}
