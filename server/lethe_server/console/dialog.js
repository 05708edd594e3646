// One dialog for every change: what will be done, then how far it is, then how it ended.

import { element, focusOn, say } from "./dom.js";
import { problem } from "./problem.js";

export const CHANGED = "lethe-changed"; // an event of the window

// title, action: words. body: what is asked and told. run(progress): makes the change; what it returns is said at the
// end. An error of it is shown in full, and the change can be tried again.
export function ask({ title, action, body, run, danger = false }) {
  const opener = document.activeElement?.dataset?.focus;
  const asked = element("div", { class: "asked" }, body);
  const answer = element("div");
  const progress = new Progress();
  const confirm = element("button", { class: danger ? "danger" : "primary" }, action);
  const close = element("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel");
  const form = element("form", { method: "dialog" }, asked, progress.view, answer,
    element("div", { class: "buttons" }, close, confirm));
  const dialog = element("dialog", { "aria-labelledby": "dialog-title" },
    element("h2", { id: "dialog-title" }, title), form);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    answer.replaceChildren();
    held(asked, true);
    confirm.disabled = true;
    say(close, "Close");
    progress.begin();
    try {
      progress.end(await run(progress));
      dispatchEvent(new Event(CHANGED));
      confirm.remove();
      close.focus();
    } catch (error) {
      progress.break();
      answer.replaceChildren(problem(error));
      held(asked, false);
      confirm.disabled = false;
      say(close, "Cancel");
      confirm.focus();
    }
  });
  dialog.addEventListener("close", () => {
    progress.closed = true;
    dialog.remove();
    if (!opener || !focusOn(opener)) document.querySelector("h1")?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
}

// What is asked can't be changed any more while it is done, but can be read.
function held(part, yes) {
  for (const field of part.querySelectorAll("input, select")) field.disabled = yes;
}

class Progress {
  constructor() {
    this.closed = false; // nobody looks any more; the change goes on
    this.bar = element("progress", { "aria-label": "Progress", hidden: true });
    this.words = element("p", { role: "status", class: "status" });
    this.view = element("div", { class: "progress" }, this.bar, this.words);
  }

  begin() {
    this.bar.hidden = false;
    this.bar.removeAttribute("value");
  }

  say(text) {
    say(this.words, text);
  }

  share(done, total) {
    this.bar.max = total;
    this.bar.value = done;
  }

  end(text) {
    this.share(1, 1);
    this.view.classList.add("done");
    this.say(text);
  }

  break() {
    this.bar.hidden = true;
    this.say("");
  }
}
