// An error as the API gives it, in full.

import { element } from "./dom.js";

export function problem(error) {
  const head = error.status ? `${error.status} ${error.kind}` : "Not done";
  return element("div", { class: "problem", role: "alert" }, element("strong", {}, head), " ", error.message);
}
