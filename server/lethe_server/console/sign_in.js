// The page that asks for a key, and what the key is good for.

import { call, forget, get, keep, Refused } from "./api.js";
import { element, entry } from "./dom.js";
import { BASE } from "./format.js";
import { problem } from "./problem.js";

const FORBIDDEN = 403;

export function signIn(entered) {
  const field = entry("key", { type: "password", required: true });
  const submit = element("button", { class: "primary" }, "Sign in");
  const answer = element("div");
  const form = element(
    "form",
    { class: "card narrow", method: "post", "aria-labelledby": "sign-in" },
    element("h1", { id: "sign-in" }, "Sign in"),
    element("label", { for: "key" }, "Key of an administrator"),
    field,
    element("p", { class: "soft" }, "An evaluator's key opens the playground. ",
      "The key stays in the memory of this page: reloading or closing it forgets the key."),
    answer,
    submit,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    answer.replaceChildren();
    keep(field.value.trim());
    try {
      const role = await roleOf();
      field.value = "";
      entered(role);
    } catch (error) {
      forget();
      answer.replaceChildren(problem(error));
      field.focus();
    } finally {
      submit.disabled = false;
    }
  });
  return form;
}

// Who may administrate, else who may see the large model alone. Throws what the server says to anybody else.
async function roleOf() {
  try {
    await get("admin/state");
    return "admin";
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== FORBIDDEN) throw error;
    const measures = await call("POST", "tokenize", { body: { model: BASE, prompt: "x" } }).catch(() => null);
    if (measures === null) throw error;
    return "evaluator";
  }
}
