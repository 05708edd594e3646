// The scores of a training as a picture, and as a table.

import { element } from "./dom.js";
import { number } from "./format.js";
import { table } from "./table.js";

const SPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, BOTTOM, EDGE] = [560, 220, 36, 26, 10];

// training: training.json, of which one run was kept; null without one.
export function curve(training) {
  const run = training?.runs?.find((each) => each.learning_rate === training.learning_rate) ?? training?.runs?.[0];
  const scores = run?.scores ?? [];
  if (!scores.length) return element("p", {}, "No record of its training lies in the module.");
  const columns = [
    { name: "Step", number: true, cell: (score) => score.step },
    { name: "Forget", number: true, cell: (score) => number(score.forget) },
    { name: "Retain", number: true, cell: (score) => number(score.retain) },
  ];
  return [
    element("figure", {}, picture(scores, run.kept_step), element("figcaption", {},
      key("forget", "answers to forget"), key("retain", "answers to keep"),
      `Mean probability; kept is step ${run.kept_step}, learning rate ${run.learning_rate}.`)),
    element("details", {}, element("summary", {}, "The scores as a table"), table("Scores by step", columns, scores)),
  ];
}

function key(name, words) {
  return element("span", { class: "key" }, element("span", { class: `swatch ${name}` }), words);
}

function picture(scores, kept) {
  const last = Math.max(...scores.map((score) => score.step), 1);
  const x = (step) => LEFT + (step / last) * (WIDTH - LEFT - EDGE);
  const y = (value) => EDGE + (1 - value) * (HEIGHT - BOTTOM - EDGE);
  const first = scores[0];
  const end = scores.find((score) => score.step === kept) ?? scores.at(-1);
  const label = `Over ${last} steps the forgotten answers went from ${number(first.forget)} to ${number(end.forget)}, `
    + `the kept ones from ${number(first.retain)} to ${number(end.retain)}.`;
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "curve", role: "img", "aria-label": label });
  for (const value of [0, 0.5, 1]) {
    svg.append(shape("line", { x1: LEFT, x2: WIDTH - EDGE, y1: y(value), y2: y(value), class: "grid" }),
      words(value, LEFT - 6, y(value) + 4, "end"));
  }
  svg.append(shape("line", { x1: x(kept), x2: x(kept), y1: EDGE, y2: HEIGHT - BOTTOM, class: "kept" }),
    words(0, x(0), HEIGHT - 8, "start"), words(last, x(last), HEIGHT - 8, "end"));
  for (const name of ["retain", "forget"]) {
    const points = scores.map((score) => `${x(score.step)},${y(score[name])}`).join(" ");
    svg.append(shape("polyline", { points, class: `line ${name}` }));
    svg.append(...scores.map((score) =>
      shape("circle", { cx: x(score.step), cy: y(score[name]), r: 2.5, class: name })));
  }
  return svg;
}

function shape(tag, attributes) {
  const made = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function words(text, x, y, anchor) {
  const made = shape("text", { x, y, "text-anchor": anchor });
  made.textContent = text;
  return made;
}
