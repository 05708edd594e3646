// The changes that an administrator can make, each asked for once more with its digests.

import { call, modulePath, routePath } from "./api.js";
import { beforeAfter, earlier } from "./change_words.js";
import { ask } from "./dialog.js";
import { element, entry } from "./dom.js";
import { shortRef } from "./format.js";
import { drained, draining } from "./waiting.js";

export function rollBack(route, generation) {
  ask({
    title: `Roll back ${route.model}`,
    action: "Roll back",
    body: beforeAfter(route, earlier(route)),
    async run(progress) {
      progress.say("Proving in the engine and writing");
      const changed = await call("POST", `${routePath(route.model)}/rollback`, { generation });
      return drained(changed.generation, route, progress);
    },
  });
}

export function takeAway(route, generation) {
  ask({
    title: `Serve ${route.model} no more`,
    action: "Serve no more",
    danger: true,
    body: [
      element("p", {}, "Requests under way end as they began; new ones are refused. The name's history is gone, ",
        "so this can't be rolled back."),
      beforeAfter(route, null),
    ],
    async run(progress) {
      progress.say("Writing");
      const changed = await call("DELETE", routePath(route.model), { generation });
      return drained(changed.generation, route, progress);
    },
  });
}

export function remove(module, generation, then = () => {}) {
  const named = module.active_on.length
    && element("p", { class: "warning" }, `Still named by ${module.active_on.join(", ")}: the server will refuse.`);
  ask({
    title: `Remove ${module.name}`,
    action: "Remove",
    danger: true,
    body: [
      element("p", {}, "Out of the engine and the catalog, once its requests have ended:"),
      element("p", {}, element("code", { class: "whole" }, module.ref)),
      element("p", { class: "soft" }, `It came from ${module.source}.`),
      named,
    ],
    async run(progress) {
      await draining(module.ref, call("DELETE", modulePath(module.ref), { generation }), progress);
      then();
      return `Done: ${shortRef(module.ref)} is gone.`;
    },
  });
}

export function add() {
  const source = entry("source", { required: true });
  const digest = entry("digest", { placeholder: "sha256:…", "aria-describedby": "digest-help" });
  ask({
    title: "Add a module",
    action: "Add",
    body: [
      element("label", { for: "source" }, "Directory on the server, or URL"),
      source,
      element("label", { for: "digest" }, "Digest that it must have"),
      digest,
      element("p", { id: "digest-help", class: "soft" }, "May stay empty. No route changes."),
    ],
    async run(progress) {
      progress.say("Fetching, verifying, and proving in the engine that it acts");
      const body = { source: source.value.trim(), ...(digest.value.trim() && { digest: digest.value.trim() }) };
      const added = await call("POST", "admin/modules", { body });
      return `Done: ${added.ref} is in the catalog.`;
    },
  });
}
