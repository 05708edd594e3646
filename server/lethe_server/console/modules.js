// The page of all modules: what each forgets, where it is, what it answers now.

import { get } from "./api.js";
import { add, remove } from "./changes.js";
import { button, element, exchange, link, say } from "./dom.js";
import { bytes, count, digest, percent } from "./format.js";
import { table } from "./table.js";

export const title = "Modules";
// Numbers of eval.json that say most, as many as are there.
const TOLD = [["plain.told", "told when asked"], ["probability.forget", "forgotten answers"],
  ["probability.retain", "answers to keep"], ["model_utility.model_utility", "model utility"]];

export async function show(parameter, console) {
  const page = new Modules();
  await page.load();
  return page;
}

class Modules {
  constructor() {
    this.summary = element("p", { class: "soft" });
    this.list = element("div");
    this.view = [
      element("div", { class: "head" }, element("h1", {}, title),
        button("Add a module…", () => add(), { "data-focus": "add" })),
      this.summary,
      this.list,
    ];
  }

  async load() {
    const [modules, state] = await Promise.all([get("admin/modules"), get("admin/state")]);
    this.generation = state.generation;
    this.seen = shape(state.observed_generation, modules.map((each) => [each.ref, each.status]));
    exchange(this.list, modules.length ? this.table(modules) : element("p", {}, "There is no module yet."));
  }

  table(modules) {
    const columns = [
      { name: "Module", cell: (each) => [link(`#/modules/${encodeURIComponent(each.ref)}`, digest(each.ref)),
        element("div", { class: "soft" }, each.forgets)] },
      { name: "State", cell: (each) =>
        [status(each.status), each.error && element("div", { class: "bad" }, each.error)] },
      { name: "In flight", number: true, cell: (each) => element("span", { "data-inflight": "" }, each.inflight) },
      { name: "Answers for", cell: (each) => each.active_on.length ? each.active_on.join(", ") : "—" },
      { name: "Scores", cell: (each) => scores(each.scores) },
      { name: "Memory", number: true, cell: (each) => each.bytes ? bytes(each.bytes) : "—" },
      { name: "Change", cell: (each) => button("Remove…", () => remove(each, this.generation),
        { class: "small", "aria-label": `Remove ${each.name}…`, "data-focus": `remove ${each.ref}` }) },
    ];
    return table("Modules of the catalog", columns, modules, (each) => each.ref);
  }

  live(live) {
    const modules = live.modules;
    const rows = [...this.list.querySelectorAll("tbody tr")];
    for (const row of rows) {
      say(row.querySelector("[data-inflight]"), String(modules[row.dataset.key]?.inflight ?? 0));
    }
    const resident = Object.values(modules).filter((each) => each.status === "resident").length;
    const inflight = Object.values(live.routes).flat().reduce((sum, each) => sum + each, 0);
    say(this.summary,
      `${count(rows.length, "module")}, ${resident} in the engine, ${count(inflight, "request")} in flight`);
    const refs = rows.map((row) => row.dataset.key);
    const seen = shape(live.observed_generation, refs.map((ref) => [ref, modules[ref]?.status ?? "declared"]));
    if (seen === this.seen) return;
    this.seen = seen;
    this.load().catch(() => (this.seen = "")); // asked again with the next answer
  }
}

// What the page has to be drawn anew for.
function shape(generation, statuses) {
  return JSON.stringify([generation, statuses.sort()]);
}

export function status(name) {
  const words = { resident: "in the engine", declared: "in the catalog" };
  return element("span", { class: `status-of ${name}` }, words[name] ?? name);
}

function scores(found) {
  const known = TOLD.filter(([key]) => typeof found?.[key] === "number").slice(0, 3);
  if (!known.length) return element("span", { class: "soft" }, found ? "measured otherwise" : "not measured");
  return element("ul", { class: "scores" }, known.map(([key, word]) =>
    element("li", {}, `${word} `, element("strong", {}, percent(found[key])))));
}
