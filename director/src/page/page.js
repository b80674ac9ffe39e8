// Asks the director again and again, and shows what it says.

import { follow, html, say } from "./dom.js";
import { announce, showRouters } from "./routers.js";
import { showEvents } from "./events.js";
import { showHistory, showServices } from "./services.js";
import { showTopology } from "./topology.js";
import { clock, span } from "./words.js";

/** In milliseconds: a change of role is to be seen within two seconds. */
const STATUS_EVERY = 1000;
const EVENTS_EVERY = 2000;
const HISTORY_EVERY = 10000;
const PATIENCE = 5000;

const at = (id) => document.getElementById(id);
let heard = null;

keepAsking("api/status", STATUS_EVERY, showStatus, showSilence);
keepAsking("api/events", EVENTS_EVERY, (events) => showEvents(at("events"), events));
keepAsking("api/history", HISTORY_EVERY, showHistory);

async function keepAsking(path, every, show, fail = () => {}) {
  for (;;) {
    await visible();
    const began = performance.now();
    let pause;
    try {
      const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(answer.statusText);
      show(await answer.json());
      // What takes long, here or there, is asked for less often.
      pause = Math.max(every, 4 * (performance.now() - began));
    } catch {
      fail();
      // Who was silent may be back at any time.
      pause = Math.max(every, performance.now() - began);
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** Waits until somebody looks. */
function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", () => resolve(), { once: true });
  });
}

function showStatus(status) {
  const began = performance.now();
  heard = new Date();
  document.title = `${status.node}: ${roles(status)}`;
  say(at("node"), status.node);
  say(at("about"), `director ${status.version}, running for ${span(status.uptime_seconds)}`);
  say(at("link"), "live");
  delete document.body.dataset.silent;
  showProblems(status);
  showTopology(at("topology"), status);
  showRouters(at("routers"), status.instances);
  showServices(at("service-list"), status.services);
  announce(at("announcement"), status);
  // Reading a size makes the browser lay everything out now, so that it counts.
  const height = document.body.offsetHeight;
  performance.clearMeasures("draw");
  performance.measure("draw", { start: began, end: performance.now(), detail: { height } });
}

function showSilence() {
  const since = heard === null ? "" : ` since ${clock(heard)}: what is below was so then`;
  say(at("link"), `no answer from the director${since}`);
  document.body.dataset.silent = "";
}

function roles(status) {
  const states = new Set(status.instances.map((instance) => instance.state));
  return states.size === 0 ? "director" : [...states].join(", ");
}

function showProblems({ findings }) {
  at("problems").hidden = findings.length === 0;
  follow(at("problems").querySelector("ul"), findings, (line) => line, (line) => ({
    element: html("li", {}, line),
    update() {},
  }));
}
