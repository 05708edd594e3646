// The page of the audit log: who changed what, the newest first.

import { get } from "./api.js";
import { button, element, exchange, say } from "./dom.js";
import { shortRef, time } from "./format.js";
import { table } from "./table.js";

export const title = "Audit log";
const SIZE = 25; // lines of a page
const END = 2 ** 53; // a number that no line has

export async function show() {
  const page = new Audit();
  await page.load();
  return page;
}

class Audit {
  constructor() {
    this.first = null; // number of the page's oldest line; null for the newest page
    this.list = element("div");
    this.where = element("p", { role: "status", class: "soft" });
    this.newer = button("Newer", () => this.turn(SIZE), { "data-focus": "newer" });
    this.older = button("Older", () => this.turn(-SIZE), { "data-focus": "older" });
    this.head = element("p", { class: "soft" });
    this.view = [
      element("div", { class: "head" }, element("h1", {}, title)),
      element("div", { class: "pager" }, this.newer, this.older, this.where),
      this.list,
      this.head,
    ];
  }

  async load() {
    const { last } = await get(`admin/audit?after=${END}&limit=1`);
    const newest = Math.max(1, last - SIZE + 1);
    const first = Math.min(this.first ?? newest, newest);
    const page = await get(`admin/audit?after=${first - 1}&limit=${SIZE}`);
    this.newest = newest;
    this.at = first;
    exchange(this.list, page.lines.length ? this.table(page.lines.reverse()) : element("p", {}, "No change yet."));
    this.newer.disabled = first >= newest;
    this.older.disabled = first <= 1;
    say(this.where, last ? `Lines ${first} to ${Math.min(first + SIZE - 1, last)} of ${last}` : "");
    exchange(this.head, "Hash of the newest line, for ", element("code", {}, "lethe audit verify --head"), ": ",
      element("code", { class: "whole" }, page.head));
  }

  // by: lines towards the newest; the newest page is kept up with.
  async turn(by) {
    const first = Math.max(1, this.at + by);
    this.first = first >= this.newest ? null : first;
    await this.load();
    const left = by > 0 ? this.newer : this.older;
    (left.disabled ? (by > 0 ? this.older : this.newer) : left).focus();
  }

  table(lines) {
    const columns = [
      { name: "Line", number: true, cell: (line) => `#${line.seq}` },
      { name: "When", cell: (line) => time(line.time) },
      { name: "Who", short: true, cell: (line) => line.who },
      { name: "What", short: true, cell: (line) => line.action },
      { name: "Subject", cell: (line) => shortRef(line.subject) },
      { name: "Result", cell: (line) => element("span", { class: `result ${line.result}` }, line.result) },
      { name: "Generation", number: true, cell: (line) => line.generation ?? "—" },
      { name: "Details", cell: (line) => details(line) },
    ];
    return table("Changes, the newest first", columns, lines, (line) => line.seq);
  }
}

function details(line) {
  const { digests, details: more, hash } = line;
  return element("details", {}, element("summary", { "aria-label": `Details of line ${line.seq}` }, "Show"),
    element("pre", { tabindex: 0, "aria-label": `Line ${line.seq}` },
      JSON.stringify({ digests, ...more, hash }, null, 1)));
}
