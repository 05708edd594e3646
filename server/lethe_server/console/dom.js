// Elements from data. Text goes in as text, never as markup.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...given(children));
  return made;
}

export function button(text, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, text);
}

// A field for words that only the server knows.
export function entry(id, attributes = {}) {
  return element("input", { id, type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
}

export function numeric(id, value, attributes = {}) {
  return element("input", { id, type: "number", step: "any", value, ...attributes });
}

export function link(href, ...children) {
  return element("a", { href }, ...children);
}

// A list of names and values; a value may be several nodes.
export function facts(pairs, attributes = {}) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const rows = shown.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  return element("dl", { class: "facts", ...attributes }, rows);
}

// Sets text only where it differs: a live region speaks of every change.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// New children in the place of the old; what had the focus keeps it, found again by its data-focus.
export function exchange(parent, ...children) {
  const held = parent.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  parent.replaceChildren(...given(children));
  if (held !== undefined) focusOn(held, parent);
}

export function focusOn(name, parent = document) {
  const found = [...parent.querySelectorAll("[data-focus]")].find((node) => node.dataset.focus === name);
  found?.focus({ preventScroll: true });
  return found !== undefined;
}

function given(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}
