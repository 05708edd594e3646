// Another module for a public name: at once, for a share of clients, or only compared.

import { call, routePath } from "./api.js";
import { beforeAfter } from "./change_words.js";
import { ask } from "./dialog.js";
import { element, entry, exchange, numeric } from "./dom.js";
import { digest } from "./format.js";
import { body, MANNERS, plan } from "./plan.js";
import { drained } from "./waiting.js";

const DEFAULT_PERCENT = 5;
const MANY = 8; // modules that are found without a filter

// route: null for a new public name.
export function swap(route, modules, generation) {
  const fields = new Fields(route, modules);
  ask({
    title: route ? `Swap what answers for ${route.model}` : "A new public name",
    action: route ? "Swap" : "Serve",
    body: fields.view,
    async run(progress) {
      const spec = fields.plan();
      progress.say("Proving in the engine and writing");
      const changed = await call("PUT", routePath(fields.model), { body: body(spec), generation });
      return drained(changed.generation, route, progress);
    },
  });
}

class Fields {
  constructor(route, modules) {
    this.route = route;
    this.name = entry("model", { required: true });
    this.boxes = modules.map((module) => element("input", { type: "checkbox", value: module.ref }));
    this.manners = Object.keys(MANNERS).map((manner) =>
      element("input", { type: "radio", name: "manner", value: manner, checked: manner === "all" }));
    this.percent = numeric("percent", DEFAULT_PERCENT, { min: 0, max: 100 });
    this.share = element("label", { class: "choice", for: "percent" }, "Percent", this.percent);
    this.filter = entry("filter", { type: "search" });
    this.preview = element("div", { "aria-live": "polite" });
    this.view = element("div", { oninput: () => this.changed() },
      route ? null : [element("label", { for: "model" }, "Public name"), this.name],
      this.choice(modules), route ? this.manner() : null, this.preview);
    this.changed();
  }

  get model() {
    return this.route ? this.route.model : this.name.value.trim();
  }

  plan() {
    const refs = this.boxes.filter((box) => box.checked).map((box) => box.value);
    const manner = this.manners.find((radio) => radio.checked).value;
    return plan(manner, this.route, refs, this.percent.valueAsNumber);
  }

  choice(modules) {
    return element("fieldset", {}, element("legend", {}, "What is to answer; several answer together"),
      modules.length > MANY ? [element("label", { for: "filter" }, "Only those with"), this.filter] : null,
      element("div", { class: "choices" }, modules.map((module, at) =>
        element("label", { class: "choice" }, this.boxes[at],
          element("span", {}, digest(module.ref),
            module.forgets && element("span", { class: "soft" }, module.forgets))))));
  }

  manner() {
    return element("fieldset", { class: "row" }, element("legend", {}, "For whom"),
      Object.values(MANNERS).map((words, at) => element("label", { class: "choice" }, this.manners[at], words)),
      this.share);
  }

  changed() {
    this.share.hidden = this.manners.find((radio) => radio.checked).value === "all";
    const wanted = this.filter.value.trim().toLowerCase();
    for (const box of this.boxes) {
      const line = box.closest("label");
      line.hidden = !box.checked && !line.textContent.toLowerCase().includes(wanted);
    }
    try {
      exchange(this.preview, beforeAfter(this.route, this.plan()));
    } catch (error) {
      exchange(this.preview, element("p", { class: "soft" }, error.message));
    }
  }
}
