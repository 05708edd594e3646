// A table that becomes a list of cards where the window is narrow. Roles are said, as styles that change the layout of
// a table would take them away.

import { element } from "./dom.js";

// columns: {name, cell(row), number, short}; a short one is never broken where there is room. key(row): names the row
// for live updates.
export function table(caption, columns, rows, key = () => undefined) {
  const head = columns.map((column) =>
    element("th", { scope: "col", role: "columnheader", class: column.number && "number" }, column.name));
  return element(
    "table",
    { role: "table", class: "data" },
    element("caption", {}, caption),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, head)),
    element("tbody", { role: "rowgroup" }, rows.map((row) => line(columns, row, key(row)))),
  );
}

function line(columns, row, key) {
  return element("tr", { role: "row", "data-key": key }, columns.map((column, at) =>
    element(at ? "td" : "th", {
      role: at ? "cell" : "rowheader",
      scope: at ? undefined : "row",
      class: (column.number && "number") || (column.short && "short"),
      "data-label": column.name,
    }, element("div", {}, column.cell(row)))));
}
