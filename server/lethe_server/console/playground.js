// The page that asks the large model alone and the unlearned one, side by side.

import { get } from "./api.js";
import { changed } from "./difference.js";
import { element, exchange, say } from "./dom.js";
import { count, digest } from "./format.js";
import { generate, score } from "./generation.js";
import { problem } from "./problem.js";
import { Question } from "./question.js";
import { legend, marked, strip, told } from "./strip.js";

export const title = "Playground";
const NAMES = ["Large model alone", "Unlearned"];

export async function show(parameter, console) {
  const modules = console.role === "admin" ? get("admin/modules") : [];
  const page = new Playground((await get("v1/models")).data, await modules);
  return { view: page.view, close: () => page.stop() };
}

class Playground {
  constructor(models, modules) {
    this.limit = models[0]?.max_model_len ?? Infinity; // the same for all: it is the engine's
    const names = [...models.map((model) => model.id), ...modules.map((module) => module.ref)];
    this.question = new Question(names, () => this.ask(), () => this.stop());
    this.answers = NAMES.map((name, at) => new Answer(name, at));
    this.status = element("p", { role: "status", class: "soft" });
    this.error = element("div");
    this.results = element("div", { class: "results", hidden: true }, legend(),
      element("div", { class: "sides" }, this.answers.map((answer) => answer.view)));
    this.view = [element("h1", {}, title), this.question.view, this.error, this.status, this.results];
  }

  async ask() {
    const [common, models] = [this.question.common(), this.question.models()];
    this.stop();
    const run = (this.running = new AbortController());
    this.question.busy(true);
    exchange(this.error);
    this.results.hidden = false;
    for (const answer of this.answers) answer.begin();
    say(this.status, "Asking both models");
    try {
      const asked = models.map((model) => ({ ...model, user: common.user, signal: run.signal, limit: this.limit }));
      const made = await Promise.all(asked.map((each, at) =>
        generate({ ...common, ...each }, (text) => this.answers[at].hear(text))));
      say(this.status, "Scoring both answers under both models");
      const shown = await compared(asked, made);
      this.answers.forEach((answer, at) => answer.end(shown[at], made[at]));
      say(this.status, verdict(shown));
    } catch (error) {
      run.abort();
      const stopped = error.name === "AbortError";
      say(this.status, stopped ? "Stopped" : "");
      if (!stopped) exchange(this.error, problem(error));
    } finally {
      for (const answer of this.answers) answer.view.removeAttribute("aria-busy");
      if (this.running === run) this.question.busy(false);
    }
  }

  stop() {
    this.running?.abort();
  }
}

// Both answers as tokens: what each token is to the large model alone and to the unlearned one.
async function compared(asked, made) {
  const marks = changed(made[0].ids, made[1].ids);
  return Promise.all(made.map(async ({ promptIds, ids }, at) => {
    const [alone, unlearned] = await Promise.all(asked.map((each) => score(each, promptIds, ids)));
    return alone.map((one, place) => ({
      text: one.text,
      changed: marks[at][place],
      alone: one.logprob,
      unlearned: unlearned[place].logprob,
      offset: unlearned[place].logprob - one.logprob,
    }));
  }));
}

function verdict([alone, unlearned]) {
  const first = unlearned.findIndex((token) => token.changed);
  if (first < 0 && alone.length === unlearned.length) return "Both answers are the same.";
  const number = unlearned.filter((token) => token.changed).length;
  return `Of the unlearned answer's ${count(unlearned.length, "token")} ${number} are not in the other one`
    + (first < 0 ? "." : `, the first is token ${first + 1}.`);
}

class Answer {
  constructor(name, at) {
    this.name = name;
    this.who = element("span", { class: "soft" });
    this.content = element("div");
    this.view = element("section", { class: "card side", "aria-labelledby": `side-${at}` },
      element("h2", { id: `side-${at}` }, name), this.who, this.content);
  }

  begin() {
    this.view.setAttribute("aria-busy", "true");
    this.text = element("p", { class: "answer" });
    exchange(this.content, this.text);
    exchange(this.who);
  }

  hear(text) {
    this.text.textContent = text;
  }

  end(tokens, made) {
    exchange(this.who, made.module && digest(made.module), made.end === "length" && " · cut at the longest answer");
    exchange(this.content, marked(tokens), strip(tokens), told(tokens, this.name));
  }
}
