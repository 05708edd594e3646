// Until what answered before has finished its requests.

import { get } from "./api.js";
import { count, shortRef } from "./format.js";

const POLL_MS = 250;

// What there is to say of a change once it is made: an error from here on must not look like one of the change.
export async function drained(generation, before, progress) {
  try {
    return await wait(generation, before, progress);
  } catch (error) {
    return `Done: generation ${generation} is written. How far it is can't be told: ${error.message}`;
  }
}

// Until ``generation`` is in force and no request is left on what only ``before`` names; says so.
// A module that another route names as well is not waited for: its requests may never end.
async function wait(generation, before, progress) {
  const named = new Set((await get("admin/routes")).flatMap(refsOf));
  const waited = refsOf(before).filter((ref) => !named.has(ref));
  let most = 0;
  for (;;) {
    const live = await get("admin/live");
    const left = waited.reduce((sum, ref) => sum + (live.modules[ref]?.inflight ?? 0), 0);
    const inForce = live.observed_generation >= generation;
    if (inForce && !left) break;
    if (progress.closed) return "";
    most = Math.max(most, left);
    progress.say(inForce ? `Draining: ${count(left, "request")} left on ${waited.map(shortRef).join(", ")}`
      : `Taking effect: generation ${live.observed_generation} is in force, not yet ${generation}`);
    if (most) progress.share(most - left, most);
    await pause();
  }
  const rest = waited.length ? ` No request is left on ${waited.map(shortRef).join(", ")}.` : "";
  return `Done: generation ${generation} is in force.${rest}`;
}

// Says how many requests a module still answers, until ``change`` has ended; gives what that gives.
export async function draining(ref, change, progress) {
  let ended = false;
  const result = change.finally(() => (ended = true));
  result.catch(() => {}); // thrown below, once
  while (!ended && !progress.closed) {
    const left = (await get("admin/live").catch(() => null))?.modules[ref]?.inflight ?? 0;
    if (!ended) progress.say(left ? `Draining: ${count(left, "request")} left` : "Taking it out of the engine");
    await Promise.race([pause(), result.catch(() => {})]);
  }
  return result;
}

function refsOf(route) {
  if (!route) return [];
  const parts = [...route.targets, ...(route.shadow ? [route.shadow] : [])];
  return [...new Set(parts.flatMap((part) => part.modules))];
}

function pause() {
  return new Promise((resolve) => setTimeout(resolve, POLL_MS));
}
