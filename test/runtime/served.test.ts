import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { blobFiles, isUserError, servedFiles } from "webrlhf";

const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
let server: Server;
let url: string;
const ranges: (string | undefined)[] = [];

beforeAll(async () => {
  server = createServer((request, response) => {
    const { range } = request.headers;
    ranges.push(range);
    if (request.url === "/empty") return void response.writeHead(416).end();
    if (request.url === "/broken") return void response.writeHead(500).end();
    if (!request.url?.startsWith("/file")) return void response.writeHead(404).end();
    const match = /^bytes=(\d+)-(\d+)$/.exec(range ?? "");
    if (!match || request.url === "/file-whole") return void response.writeHead(200).end(bytes);
    const [first, last] = [Number(match[1]), Number(match[2])];
    const short = request.url === "/file-short" && first > 0 ? 1 : 0;
    response.writeHead(206, { "Content-Range": `bytes ${first}-${last}/${bytes.length}` });
    response.end(bytes.subarray(first, last + 1 - short));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => void server.close());

describe("files on a server", () => {
  it("are read in ranges", async () => {
    const file = await servedFiles().open(`${url}/file`);
    expect(file?.size).toBe(1000);
    expect(await file?.read(10, 5)).toEqual(bytes.slice(10, 15));
    expect(await file?.read(990, 50)).toEqual(bytes.slice(990));
    expect(await file?.read(1000, 5)).toEqual(new Uint8Array());
    expect(ranges.slice(-2)).toEqual(["bytes=10-14", "bytes=990-999"]);
  });

  it("are read whole where the server knows no ranges", async () => {
    const file = await servedFiles().open(`${url}/file-whole`);
    const before = ranges.length;
    expect(await file?.read(10, 5)).toEqual(bytes.slice(10, 15));
    expect(ranges.length).toBe(before);
  });

  it("may be empty, or not there", async () => {
    expect((await servedFiles().read(`${url}/empty`))?.length).toBe(0);
    expect(await servedFiles().open(`${url}/none`)).toBeNull();
  });

  it("never give bytes of another place", async () => {
    const file = await servedFiles().open(`${url}/file-short`);
    const error = await file?.read(10, 5).catch((e) => e);
    expect(isUserError(error)).toBe(true);
  });

  it("name what the server answered, and refuse to be written", async () => {
    await expect(servedFiles().open(`${url}/broken`)).rejects.toThrow(/cannot read .*\/broken: HTTP status 500/);
    await expect(servedFiles().writeFile("x", "y")).rejects.toThrow("cannot write x: these files can only be read");
  });
});

describe("blobs", () => {
  it("are files by their path", async () => {
    const files = blobFiles({ "m/a": new Blob([bytes]), "m/sub/b": new Blob(["x"]) });
    expect(await files.list("m")).toEqual(["a", "sub"]);
    expect(await (await files.open("m/a"))?.read(990, 50)).toEqual(bytes.slice(990));
    expect(await files.open("constructor")).toBeNull();
    expect(await files.read("m/sub/b")).toEqual(new TextEncoder().encode("x"));
  });
});
