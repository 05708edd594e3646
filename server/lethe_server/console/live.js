// What changes by itself, asked for every second while somebody looks.

import { get } from "./api.js";

const PERIOD_MS = 1000;

export class Live {
  // heard: called with every answer; failed: with every error.
  constructor(heard, failed) {
    this.heard = heard;
    this.failed = failed;
    this.running = false;
    this.timer = undefined;
    this.onvisibility = () => this.wake();
  }

  start() {
    this.running = true;
    document.addEventListener("visibilitychange", this.onvisibility);
    this.wake();
  }

  stop() {
    this.running = false;
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.onvisibility);
  }

  // At once if the page is seen; not at all while it is hidden.
  wake() {
    clearTimeout(this.timer);
    if (this.running && !document.hidden) this.look();
  }

  async look() {
    try {
      const live = await get("admin/live");
      if (!this.running) return;
      this.heard(live);
    } catch (error) {
      if (this.running) this.failed(error);
    }
    clearTimeout(this.timer);
    if (this.running && !document.hidden) this.timer = setTimeout(() => this.look(), PERIOD_MS);
  }
}
