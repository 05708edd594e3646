// How numbers, digests and times are written.

import { element } from "./dom.js";

export const BASE = "base";
const DIGITS = 8; // of a digest; the server takes any unambiguous beginning

export function shortRef(ref) {
  return ref.replace(/(@sha256:[0-9a-f]{8})[0-9a-f]+/, "$1");
}

// Modules that answer together, none for the large model alone.
export function together(modules) {
  return modules.length ? modules.map(shortRef).join(" + ") : BASE;
}

// A reference with its whole digest at hand: read out and copied whole, shown short.
export function digest(ref) {
  const [name, sum] = ref.split("@");
  if (sum === undefined) return element("span", {}, ref);
  const short = sum.replace("sha256:", "").slice(0, DIGITS);
  return element("span", { title: ref }, name, element("code", { class: "digest" }, ` ${short}`));
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

export function percent(share) {
  return `${Number((100 * share).toFixed(1))}%`;
}

export function number(value) {
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

export function signed(value) {
  const size = Math.abs(value).toFixed(2);
  return Number(size) === 0 ? size : (value < 0 ? "−" : "+") + size;
}

export function bytes(size) {
  const units = ["B", "kB", "MB", "GB"];
  const power = size ? Math.min(units.length - 1, Math.floor(Math.log10(size) / 3)) : 0;
  return `${number(size / 1000 ** power)} ${units[power]}`;
}

export function time(iso) {
  return element("time", { datetime: iso }, iso.replace("T", " ").replace(/(\.\d+)?(Z|\+00:00)$/, " UTC"));
}
