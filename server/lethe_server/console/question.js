// What the playground asks: the form, and what it says.

import { element, entry, numeric } from "./dom.js";
import { BASE } from "./format.js";

const MAX_TOKENS = 512; // comparing two answers takes their product in steps

export class Question {
  // names: public models and references that can be asked for; more can be typed.
  constructor(names, asked, stopped) {
    this.model = entry("asked-model", { list: "models", required: true, value: names[0] ?? "" });
    this.prompt = element("textarea", { id: "prompt", rows: 6, required: true });
    this.chat = element("input", { type: "radio", name: "form", value: "chat", checked: true });
    this.text = element("input", { type: "radio", name: "form", value: "text" });
    this.maxTokens = numeric("max-tokens", 48, { min: 1, max: MAX_TOKENS, step: 1, required: true });
    this.temperature = numeric("temperature", 0, { min: 0, max: 2, required: true });
    this.strength = numeric("strength", "", { placeholder: "its own" });
    this.stream = element("input", { type: "checkbox", checked: true });
    this.run = element("button", { class: "primary", "data-focus": "run" }, "Ask both");
    this.stop = element("button", { type: "button", onclick: stopped, hidden: true }, "Stop");
    this.view = this.form(names);
    this.view.addEventListener("submit", (event) => {
      event.preventDefault();
      asked();
    });
  }

  form(names) {
    const field = (id, words, input) => element("div", { class: "field" }, element("label", { for: id }, words), input);
    return element("form", { class: "card question", method: "dialog", "aria-label": "Question" },
      element("div", {}, field("prompt", "Prompt", this.prompt),
        element("div", { class: "buttons" }, this.run, this.stop,
          element("label", { class: "choice" }, this.stream, "streamed"))),
      element("div", {}, field("asked-model", "Model: a public name, or a module", this.model),
        element("datalist", { id: "models" }, names.map((value) => element("option", { value }))),
        element("fieldset", { class: "row" }, element("legend", {}, "Asked as"),
          element("label", { class: "choice" }, this.chat, "a chat"),
          element("label", { class: "choice" }, this.text, "a text to go on with")),
        element("div", { class: "fields" }, field("max-tokens", "Most tokens", this.maxTokens),
          field("temperature", "Temperature", this.temperature), field("strength", "Strength", this.strength))));
  }

  // What both models are asked, but for the model and the strength, which only one of them has.
  common() {
    return {
      chat: this.chat.checked,
      prompt: this.prompt.value,
      maxTokens: this.maxTokens.valueAsNumber,
      temperature: this.temperature.valueAsNumber,
      stream: this.stream.checked,
      user: `console-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`,
    };
  }

  models() {
    const strength = this.strength.value === "" ? null : this.strength.valueAsNumber;
    return [{ model: BASE, strength: null }, { model: this.model.value.trim(), strength }];
  }

  busy(yes) {
    this.run.disabled = yes;
    this.stop.hidden = !yes;
  }
}
