// The page of public names: what answers for each, who gets which share, and the changes of it.

import { get } from "./api.js";
import { earlier } from "./change_words.js";
import { rollBack, takeAway } from "./changes.js";
import { button, element, exchange, link, say } from "./dom.js";
import { BASE, count, digest, percent, together } from "./format.js";
import { swap } from "./swap.js";

export const title = "Routes";

export async function show() {
  const page = new Routes();
  await page.load();
  return page;
}

class Routes {
  constructor() {
    this.summary = element("p", { class: "soft" });
    this.list = element("div", { class: "cards" });
    this.view = [
      element("div", { class: "head" }, element("h1", {}, title),
        button("New public name…", () => this.swap(null), { "data-focus": "new" })),
      this.summary,
      this.list,
    ];
  }

  async load() {
    const [routes, modules, state] = await Promise.all([get("admin/routes"), get("admin/modules"), get("admin/state")]);
    this.modules = modules;
    this.generation = state.generation;
    this.seen = state.observed_generation;
    const none = element("p", {}, "No name is served yet.");
    exchange(this.list, routes.length ? routes.map((route) => this.card(route)) : none);
  }

  card(route) {
    const whole = route.targets.reduce((sum, target) => sum + target.weight, 0);
    const act = (text, action, run) => button(text, run, {
      class: "small",
      "aria-label": `${text.replace("…", "")} ${route.model}…`,
      "data-focus": `${action} ${route.model}`,
    });
    const previous = earlier(route);
    return element("article", { class: "card", "aria-labelledby": `route-${route.model}`, "data-model": route.model },
      element("h2", { id: `route-${route.model}` }, route.model),
      element("ul", { class: "targets" }, route.targets.map((target) => this.target(target, target.weight / whole))),
      route.shadow && element("p", { class: "soft" }, `${percent(route.shadow.share)} of requests are compared with `,
        answering(route.shadow.modules)),
      previous && element("p", { class: "soft" }, "Before: ",
        previous.targets.map((target) => together(target.modules)).join(", ")),
      element("div", { class: "buttons" }, act("Swap…", "swap", () => this.swap(route)),
        previous && act("Roll back…", "roll back", () => rollBack(route, this.generation)),
        act("Serve no more…", "take away", () => takeAway(route, this.generation))));
  }

  target(target, share) {
    const bar = element("span", { class: "bar" });
    bar.style.width = `${100 * share}%`;
    return element("li", {},
      element("span", { class: "share" }, percent(share)),
      element("span", { class: "track", "aria-hidden": "true" }, bar),
      element("span", { class: "who" }, answering(target.modules)),
      element("span", { class: "inflight", "data-inflight": "" }, count(target.inflight, "request")));
  }

  swap(route) {
    swap(route, this.modules, this.generation);
  }

  live(live) {
    for (const card of this.list.querySelectorAll("article")) {
      const counts = live.routes[card.dataset.model] ?? [];
      [...card.querySelectorAll("[data-inflight]")].forEach((node, at) => say(node, count(counts[at] ?? 0, "request")));
    }
    const names = count(Object.keys(live.routes).length, "public name");
    const inflight = Object.values(live.routes).flat().reduce((sum, each) => sum + each, 0);
    say(this.summary, `${names}, ${count(inflight, "request")} in flight`);
    if (live.observed_generation === this.seen) return;
    this.seen = live.observed_generation;
    this.load().catch(() => (this.seen = -1)); // asked again with the next answer
  }
}

function answering(modules) {
  if (!modules.length) return `${BASE}, the large model alone`;
  return modules.flatMap((ref, at) => [at ? " + " : "", link(`#/modules/${encodeURIComponent(ref)}`, digest(ref))]);
}
