// What an evaluation has found, in words and bars.

import { element, facts } from "./dom.js";
import { number, percent, time } from "./format.js";
import { table } from "./table.js";

const KINDS = {
  left: ["What is left of what was to be forgotten", "Shorter is better, down to what a model says that guesses."],
  kept: ["What has to stay", "Longer is better."],
  speech: ["How it speaks instead", "The replies to the questions of the forget set."],
  cost: ["What it costs", "Measured at a server."],
};
const WORDS = { data: "Data", measured: "Measured", lethe: "By Lethe" };

export function measures(details) {
  if (!Object.keys(details.numbers).length) {
    return element("p", {}, "Not measured yet. ", element("code", {}, "lethe eval --into-module"),
      " writes its numbers into the module, and its whole report, with comparisons, beside them.");
  }
  const groups = Object.entries(KINDS).map(([kind, words]) =>
    group(words, details.measures.filter((measure) => measure.kind === kind)));
  const told = Object.entries(details.facts).map(([key, value]) =>
    [WORDS[key] ?? key, key === "measured" ? time(value) : value]);
  return [facts(told), groups, everything(details.numbers)];
}

function group([title, hint], found) {
  if (!found.length) return null;
  return element("div", { class: "measures" }, element("h3", {}, title), element("p", { class: "soft" }, hint),
    element("ul", { class: "plain" }, found.map(bar)));
}

function bar(measure) {
  const share = measure.scale !== "number";
  const track = element("span", { class: share ? "track" : "track none", "aria-hidden": "true" });
  if (share) {
    const filled = element("span", { class: `bar ${measure.scale === "auc" ? "auc" : measure.kind}` });
    filled.style.width = `${100 * Math.max(0, Math.min(1, measure.value))}%`;
    track.append(filled);
    if (measure.scale === "auc") track.append(element("span", { class: "chance" }));
  }
  return element("li", { class: "measure" },
    element("span", { class: "words" }, element("span", {}, measure.title),
      element("span", { class: "soft" }, measure.meaning)),
    track,
    element("strong", { class: "value" }, share ? percent(measure.value) : number(measure.value)));
}

function everything(numbers) {
  const columns = [
    { name: "Number", cell: ([key]) => element("code", {}, key) },
    { name: "Value", number: true, cell: ([, value]) => number(value) },
  ];
  return element("details", {}, element("summary", {}, "All numbers"),
    table("All numbers of the evaluation", columns, Object.entries(numbers)));
}
