// Perfetto's trace processor, as the page ui.perfetto.dev runs it: opens a trace and answers SQL.
// node trace_processor.js FOLDER TRACE < QUERIES; FOLDER has the page's files, QUERIES is a JSON
// array of texts, and so is the answer: for each an array of rows.
"use strict";
const fs = require("fs");
const path = require("path");

const [folder, trace] = process.argv.slice(2);
const queries = JSON.parse(fs.readFileSync(0, "utf8"));
const read = (name) => fs.readFileSync(path.join(folder, path.basename(name)));

// What a browser's worker has, under the names that the page's engine looks for.
const self = { location: { href: "http://localhost/" } };
const world = {
  self,
  location: self.location,
  WorkerGlobalScope: class {},
  importScripts() {},
  process: undefined,
  console: { log() {}, warn() {}, error: console.error },
  XMLHttpRequest: class {
    open(_, name) {
      this.name = name;
    }
    send() {
      this.response = read(this.name);
    }
  },
};
new Function(...Object.keys(world), read("engine_bundle.js").toString())(...Object.values(world));

// Protobuf, as much as there is of it here.
function varint(number) {
  const out = [];
  for (; number > 127; number = Math.floor(number / 128)) out.push((number % 128) | 128);
  return Buffer.from([...out, number]);
}
const bytes = (field, data) =>
  Buffer.concat([varint((field << 3) | 2), varint(data.length), data]);
const number = (field, value) => Buffer.concat([varint(field << 3), varint(value)]);

class Reader {
  constructor(data) {
    this.data = data;
    this.at = 0;
  }
  varint() {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.data[this.at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  }
  *varints() {
    while (this.at < this.data.length) yield this.varint();
  }
  *fields() {
    while (this.at < this.data.length) {
      const key = Number(this.varint());
      if ((key & 7) === 0) {
        yield [key >> 3, this.varint()];
        continue;
      }
      const size = { 1: 8, 2: 0, 5: 4 }[key & 7] || Number(this.varint());
      yield [key >> 3, this.data.subarray(this.at, (this.at += size))];
    }
  }
}
const fields = (data) => [...new Reader(data).fields()];
const varints = (data) => [...new Reader(data).varints()];

// protos/perfetto/trace_processor/trace_processor.proto: TraceProcessorRpc, QueryResult.
const APPEND = 1;
const FINALIZE = 2;
const QUERY = 3;
let asked = 0;
let replies = [];
const port = { postMessage: (data) => replies.push(Buffer.from(data)) };

function ask(method, ...rest) {
  replies = [];
  const rpc = Buffer.concat([number(1, asked++), number(2, method), ...rest]);
  port.onmessage({ data: new Uint8Array(bytes(1, rpc)) });
  return Buffer.concat(replies);
}

function rows(reply) {
  const names = [];
  const cells = [];
  for (const [, rpc] of fields(reply)) {
    for (const [field, result] of fields(rpc)) {
      if (field === 5) throw new Error(`${result}`);
      if (field !== 203) continue;
      for (const [part, value] of fields(result)) {
        if (part === 1) names.push(`${value}`);
        if (part === 2) throw new Error(`${value}`);
        if (part === 3) cells.push(...batch(value));
      }
    }
  }
  const found = [];
  while (cells.length) {
    const row = cells.splice(0, names.length);
    found.push(Object.fromEntries(names.map((name, n) => [name, row[n]])));
  }
  return found;
}

function batch(data) {
  const parts = { 1: [], 2: [], 3: [], 5: [] };
  for (const [field, value] of fields(data)) if (field in parts) parts[field].push(value);
  const [kinds, whole, floats, texts] = Object.values(parts).map((part) => Buffer.concat(part));
  const integers = varints(whole);
  const strings = `${texts}`.split("\0");
  let place = 0;
  let integer = 0;
  let string = 0;
  return varints(kinds).map((kind) => {
    if (kind === 2n) return Number(BigInt.asIntN(64, integers[integer++]));
    if (kind === 3n) return floats.readDoubleLE(8 * place++);
    return kind === 4n ? strings[string++] : null;
  });
}

self.onmessage({ data: port });
setTimeout(() => {
  ask(APPEND, bytes(101, fs.readFileSync(trace)));
  ask(FINALIZE);
  const found = queries.map((text) => rows(ask(QUERY, bytes(103, bytes(1, Buffer.from(text))))));
  console.log(JSON.stringify(found));
});
