// An answer with its changed tokens marked, and each token's offset as a strip of heat.

import { element } from "./dom.js";
import { count, signed } from "./format.js";
import { table } from "./table.js";

const STEPS = [0.1, 0.5, 1.5, 4]; // nats; the colour deepens at each
const LEGEND = [["heat-minus-4", "−4 and less"], ["heat-minus-2", "−0.5"], ["heat-0", "0"], ["heat-plus-2", "+0.5"],
  ["heat-plus-4", "+4 and more"]];

// token: {text, changed, alone, unlearned, offset}; the last three in nats, undefined where nothing could be scored.
export function marked(tokens) {
  return element("p", { class: "answer" }, tokens.map((token) =>
    token.changed ? element("mark", {}, token.text) : token.text));
}

export function strip(tokens) {
  const cells = tokens.map((token) => element("li", { class: heat(token.offset) },
    element("span", { class: "token" }, visible(token.text)),
    element("span", { class: "offset" }, token.offset === undefined ? "" : signed(token.offset))));
  return element("ol", { class: "strip", "aria-hidden": "true" }, cells);
}

// The same for those who can't see it.
export function told(tokens, name) {
  const scored = tokens.filter((token) => token.offset !== undefined);
  if (!scored.length) return element("p", { class: "soft" }, "There is nothing to compare.");
  const low = scored.reduce((least, token) => (token.offset < least.offset ? token : least));
  const high = scored.reduce((most, token) => (token.offset > most.offset ? token : most));
  const changed = tokens.filter((token) => token.changed).length;
  const columns = [
    { name: "Token", cell: (token) => element("code", {}, visible(token.text)) },
    { name: "Changed", cell: (token) => (token.changed ? "changed" : "same") },
    { name: "Alone", number: true, cell: (token) => nats(token.alone) },
    { name: "Unlearned", number: true, cell: (token) => nats(token.unlearned) },
    { name: "Offset", number: true, cell: (token) => nats(token.offset) },
  ];
  return [
    element("p", { class: "soft" }, `${count(tokens.length, "token")}, ${changed} changed. `,
      `Offsets from ${signed(low.offset)} at “${visible(low.text)}” `,
      `to ${signed(high.offset)} at “${visible(high.text)}”.`),
    element("details", {}, element("summary", {}, "The offsets as a table"),
      table(`Tokens of the answer: ${name}`, columns, tokens)),
  ];
}

export function legend() {
  const steps = LEGEND.map(([name, words]) => element("span", { class: `step ${name}` }, words));
  return element("p", { class: "legend soft" },
    "Offset: how much more probable the module makes the token shown, in nats.",
    element("span", { class: "steps" }, steps),
    element("span", {}, element("mark", {}, "marked"), ": not in the other answer"));
}

function heat(offset) {
  if (offset === undefined) return "heat-none";
  const step = STEPS.filter((bound) => Math.abs(offset) >= bound).length;
  return step ? `heat-${offset < 0 ? "minus" : "plus"}-${step}` : "heat-0";
}

function visible(text) {
  return text.replaceAll(" ", "␣").replaceAll("\n", "⏎") || "∅";
}

function nats(value) {
  return value === undefined ? "—" : signed(value);
}
