// From what a route is to what it is to be: the bodies that the API takes, as the commands of `lethe` make them.

import { BASE } from "./format.js";

const WHOLE = 100;
export const MANNERS = { all: "All clients", canary: "A share of clients", shadow: "No client: compare only" };

// route: as it is, null for a new public name. percent: of clients (canary) or of requests (shadow, 0 to stop).
export function plan(manner, route, refs, percent) {
  const modules = [...refs].sort();
  if (!modules.length && !(manner === "shadow" && percent === 0)) throw new Error("Choose a module.");
  if (manner === "all") return { targets: [{ modules, weight: 1 }], shadow: null };
  if (route === null) throw new Error("A new public name begins with all its clients.");
  return manner === "canary" ? canary(route, modules, percent) : shadow(route, modules, percent);
}

function canary(route, modules, percent) {
  if (!(percent > 0 && percent < WHOLE)) throw new Error("The share must be above 0 and below 100%.");
  const others = route.targets.filter((target) => !same(target.modules, modules));
  if (!others.length) throw new Error(`Nothing else answers for ${route.model}: a share needs something beside it.`);
  const rest = others.reduce((sum, target) => sum + target.weight, 0);
  const kept = others.map((target) => ({ ...target, weight: (target.weight / rest) * (WHOLE - percent) }));
  return { targets: [...kept, { modules, weight: percent }], shadow: route.shadow };
}

function shadow(route, modules, percent) {
  if (!(percent >= 0 && percent <= WHOLE)) throw new Error("The share must be from 0 to 100%.");
  return { targets: route.targets, shadow: percent ? { modules, share: percent / WHOLE } : null };
}

export function body(spec) {
  const sent = { targets: spec.targets.map((target) => ({ ...answering(target.modules), weight: target.weight })) };
  if (spec.shadow) sent.shadow = { ...answering(spec.shadow.modules), share: spec.shadow.share };
  return sent;
}

export function same(one, other) {
  return one.length === other.length && one.every((ref, at) => ref === other[at]);
}

function answering(modules) {
  return modules.length > 1 ? { modules } : { module: modules[0] ?? BASE };
}
