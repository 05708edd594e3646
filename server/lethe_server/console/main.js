// The console: who is signed in, which page is shown, and what all pages share.

import { forget } from "./api.js";
import * as audit from "./audit.js";
import { CHANGED } from "./dialog.js";
import { element, say } from "./dom.js";
import { Live } from "./live.js";
import * as module from "./module.js";
import * as modules from "./modules.js";
import * as playground from "./playground.js";
import { problem } from "./problem.js";
import * as routes from "./routes.js";
import { signIn } from "./sign_in.js";

// A page: title; show(parameter, console) gives {view, live(answer), close()}, of which only view must be there.
const PAGES = { modules, routes, playground, audit };

class Console {
  constructor() {
    this.role = null; // "admin" or "evaluator"
    this.live = null; // the newest answer
    this.page = {};
    this.turn = 0; // of navigation; an older one that ends later shows nothing
    this.main = document.getElementById("content");
    this.watch = new Live((live) => this.heard(live), (error) => this.failed(error));
    addEventListener("hashchange", () => this.navigate());
    addEventListener(CHANGED, () => this.watch.wake());
    addEventListener("pagehide", () => this.leave());
    document.getElementById("leave").addEventListener("click", () => this.leave());
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault(); // the hash is the page's
      this.main.focus();
    });
    this.leave();
  }

  enter(role) {
    this.role = role;
    this.bar(true);
    if (role === "admin") this.watch.start();
    this.navigate();
  }

  leave() {
    forget();
    this.watch.stop();
    this.role = this.live = null;
    this.turn += 1;
    for (const dialog of document.querySelectorAll("dialog")) dialog.close();
    this.failed(null);
    this.bar(false);
    this.open({ view: signIn((role) => this.enter(role)) }, "Sign in");
    this.main.querySelector("input").focus();
  }

  bar(shown) {
    document.querySelector("nav").hidden = document.getElementById("leave").hidden = !shown;
    document.getElementById("state").hidden = !shown || this.role !== "admin";
    for (const item of document.querySelectorAll("[data-admin]")) item.hidden = this.role !== "admin";
  }

  async navigate() {
    if (this.role === null) return;
    const [name, parameter] = this.target();
    const shown = name === "modules" && parameter ? module : PAGES[name];
    for (const each of document.querySelectorAll("nav a")) {
      if (each.hash === `#/${name}`) each.setAttribute("aria-current", "page");
      else each.removeAttribute("aria-current");
    }
    const turn = ++this.turn;
    let page;
    try {
      page = await shown.show(parameter, this);
    } catch (error) {
      page = { view: [element("h1", {}, shown.title), problem(error)] };
    }
    if (turn !== this.turn) return page.close?.();
    this.open(page, shown.title);
    if (this.live) page.live?.(this.live);
    const head = this.main.querySelector("h1");
    head.tabIndex = -1;
    head.focus();
    scrollTo(0, 0);
  }

  // The page's name and its parameter, from the address.
  target() {
    const [name, ...rest] = location.hash.replace(/^#\//, "").split("/");
    if (this.role !== "admin") return ["playground", ""];
    return Object.hasOwn(PAGES, name) ? [name, decoded(rest.join("/"))] : ["modules", ""];
  }

  open(page, title) {
    this.page.close?.();
    this.page = page;
    this.main.replaceChildren(...[page.view].flat());
    document.title = `${title} · Lethe console`;
  }

  heard(live) {
    this.live = live;
    const behind = live.generation === live.observed_generation ? "" : `, ${live.generation} is declared`;
    say(document.getElementById("state"), `Generation ${live.observed_generation} in force${behind}`);
    this.page.live?.(live);
    this.failed(live.error ? new Error(live.error) : null);
  }

  failed(error) {
    const told = document.getElementById("trouble");
    told.hidden = error === null;
    say(told, error === null ? "" : `${error.status ? `${error.status} ${error.kind}: ` : ""}${error.message}`);
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // no module has such a name, and the server says so
  }
}

new Console();
