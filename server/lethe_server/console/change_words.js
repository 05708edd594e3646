// A route in words: who answers, with whole digests, before and after a change.

import { element } from "./dom.js";
import { BASE, percent } from "./format.js";

export function beforeAfter(before, after) {
  return element("div", { class: "before-after" }, half("Now", before), half("Then", after));
}

function half(title, route) {
  return element("section", { "aria-label": title }, element("h3", {}, title),
    route === null ? element("p", { class: "soft" }, "This public name is not served.") : specList(route));
}

function specList(route) {
  const whole = route.targets.reduce((sum, target) => sum + target.weight, 0);
  const lines = route.targets.map((target) => [percent(target.weight / whole), "of clients", target.modules]);
  if (route.shadow) lines.push([percent(route.shadow.share), "of requests compared with", route.shadow.modules]);
  return element("ul", { class: "plain" }, lines.map(([share, words, modules]) =>
    element("li", {}, element("strong", {}, share), ` ${words}: `, whole_refs(modules))));
}

function whole_refs(modules) {
  return element("code", { class: "whole" }, modules.length ? modules.join(" + ") : `${BASE}, the large model alone`);
}

// What a rollback brings back, in the form of a route: the API says it as one name where it was one alone.
export function earlier(route) {
  const before = route.previous;
  if (before === null || typeof before === "object") return before;
  return { targets: [{ modules: before === BASE ? [] : [before], weight: 1 }], shadow: null };
}
