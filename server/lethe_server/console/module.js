// A module's page: what it is, how it was judged, how it was trained, where it answers.

import { get, modulePath } from "./api.js";
import { remove } from "./changes.js";
import { curve } from "./curve.js";
import { button, element, exchange, facts, link, say } from "./dom.js";
import { bytes, count, number, time } from "./format.js";
import { measures } from "./measures.js";
import { status } from "./modules.js";
import { table } from "./table.js";

export const title = "Module";

export async function show(ref) {
  const [info, details, state] = await Promise.all([
    get(modulePath(ref)), get(`${modulePath(ref)}/details`), get("admin/state"),
  ]);
  const page = new ModulePage(info, details, state.generation);
  return { view: page.view, live: (live) => page.live(live) };
}

class ModulePage {
  constructor(info, details, generation) {
    this.info = info;
    this.generation = generation;
    this.inflight = element("span", {}, count(info.inflight, "request"));
    this.where = element("span", {}, status(info.status));
    this.view = [
      element("p", { class: "back" }, link("#/modules", "Modules")),
      element("div", { class: "head" }, element("h1", {}, info.name),
        button("Remove…", () => this.remove(), { "data-focus": "remove" })),
      element("p", { class: "lede" }, info.forgets || "The module does not say in words what it forgets."),
      this.present(),
      section("Evaluation", measures(details)),
      section("Training", curve(details.training)),
      section("Manifest", manifest(details.manifest)),
    ];
  }

  present() {
    const { info } = this;
    const routes = info.active_on.length
      ? info.active_on.flatMap((name) => [link("#/routes", name), " "]) : "no public name";
    return facts([
      ["Digest", element("code", { class: "whole" }, info.digest)],
      ["State", [this.where, info.error && element("p", { class: "bad" }, info.error)]],
      ["In flight", this.inflight],
      ["Answers for", routes],
      ["Came from", element("code", { class: "whole" }, info.source)],
      ["Memory", info.bytes ? bytes(info.bytes) : null],
      ["Loaded and proved in", info.loaded_seconds === null ? null : `${number(info.loaded_seconds)} s`],
    ]);
  }

  live(live) {
    const now = live.modules[this.info.ref] ?? { status: "declared", inflight: 0 };
    say(this.inflight, count(now.inflight, "request"));
    this.generation = live.generation;
    if (this.where.textContent !== status(now.status).textContent) exchange(this.where, status(now.status));
  }

  remove() {
    remove(this.info, this.generation, () => (location.hash = "#/modules"));
  }
}

function section(name, content) {
  const id = `part-${name.toLowerCase()}`;
  return element("section", { "aria-labelledby": id }, element("h2", { id }, name), content);
}

function manifest(given) {
  const { rule, hyperparameters, small_model: small, ...rest } = given;
  const code = (value) => element("code", { class: "whole" }, value);
  return [
    facts([
      ["Version", rest.version],
      ["Made", time(rest.created)],
      ["Method", rest.algorithm],
      ["Large model", rest.large_model],
      ["Small model", [small.id, " ", code(small.digest)]],
      ["Lanes", rest.lanes.join(" and ")],
      ["Forget set", rest.forget_set_digest && code(rest.forget_set_digest)],
      ["Tokenizer", [`${rest.vocab_size} tokens `, code(rest.tokenizer_digest)]],
      ["Strength", `${rule.strength}, within ${rest.strength_bounds.join(" to ")}`],
      ["Licence", rest.licence],
    ]),
    settings("Rule", rule),
    settings("Hyperparameters", hyperparameters),
  ];
}

function settings(name, values) {
  const rows = Object.entries(values);
  if (!rows.length) return null;
  const columns = [
    { name: "Setting", cell: ([key]) => key },
    { name: "Value", cell: ([, value]) => typeof value === "string" ? value : JSON.stringify(value) },
  ];
  return element("details", {}, element("summary", {}, name), table(name, columns, rows));
}
