/** Server-sent events: the `data` of each event of a stream (WHATWG HTML, section 9.2). */
const LONGEST = 16 << 20; // characters of one event

export async function* serverSentEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  let data: string[] = [];
  let afterReturn = false; // the last line ended with CR: an LF that follows belongs to it
  try {
    for (;;) {
      const { done, value } = await reader.read();
      buffer += done ? decoder.decode() : decoder.decode(value, { stream: true });
      if (buffer.length > LONGEST) throw new Error("the server sent an event without end");
      for (;;) {
        if (afterReturn && buffer.startsWith("\n")) buffer = buffer.slice(1);
        if (buffer !== "") afterReturn = false;
        const at = buffer.search(/[\r\n]/);
        if (at < 0) break;
        const line = buffer.slice(0, at);
        afterReturn = buffer[at] === "\r";
        buffer = buffer.slice(at + 1);
        if (line === "") {
          if (data.length > 0) yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        // Comments and other fields say nothing here.
      }
      if (done) return; // an event that was not ended is dropped, as the standard says
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
