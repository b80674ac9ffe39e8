// The virtual routers: state, priority, how near each came to a failover.

import { follow, html, mark, say } from "./dom.js";
import { latency, span } from "./words.js";

export function showRouters(parent, instances) {
  follow(parent, instances, (instance) => instance.name, router);
}

/** Tells who can't see the page that a role has changed. */
export function announce(element, status) {
  const now = new Map(status.instances.map((instance) => [instance.name, instance.state]));
  const before = element.known ?? now;
  const changed = [...now].filter(([name, state]) => before.get(name) !== state);
  element.known = now;
  if (changed.length > 0) {
    say(element, changed.map(([name, state]) => `${name} is ${state} now`).join(", "));
  }
}

function router() {
  const name = html("h3");
  const state = html("span", { class: "badge" });
  const since = html("span", { class: "since" });
  const facts = html("dl");
  const element = html("article", {}, html("header", {}, name, state, since), facts);
  const update = (instance) => {
    mark(element, "data-instance", instance.name);
    say(name, instance.name);
    say(state, instance.state);
    mark(state, "class", `badge role-${instance.state}`);
    say(since, `for ${span(instance.in_state_seconds)}`);
    follow(facts, factsOf(instance), ([title]) => title, fact);
  };
  return { element, update };
}

function fact() {
  const title = html("dt");
  const text = html("dd");
  const element = html("div", {}, title, text);
  const update = ([name, value, share]) => {
    say(title, name);
    if (share === undefined) {
      say(text, value);
      return;
    }
    // How much of the time that would have been too long has passed.
    const meter = text.querySelector("meter") ?? html("meter", { min: 0, max: 1, high: 0.7, optimum: 0 });
    if (meter.parentElement === null) text.replaceChildren(document.createTextNode(""), meter);
    mark(meter, "aria-label", name);
    meter.value = Math.min(1, share);
    if (text.firstChild.data !== value) text.firstChild.data = value;
  };
  return { element, update };
}

function* factsOf(instance) {
  if (instance.last_transition !== null) {
    const { from, reason } = instance.last_transition;
    yield ["Why", `${reason} (was ${from})`];
  }
  const { base, effective } = instance.priority;
  yield ["Priority", base === effective ? `${base}` : `${effective} (configured: ${base})`];
  if (instance.addresses.length > 0) yield ["Holds", instance.addresses.join(", ")];
  if (instance.active !== null) {
    const { address, priority } = instance.active;
    yield ["Active router", `${address}, priority ${priority}`];
  }
  const { silence, lateness } = instance;
  if (silence !== null) yield margin("Longest silence", silence);
  if (lateness !== null) yield margin("Latest advert", lateness);
  if (!instance.ready) yield ["Not ready", instance.obstacle ?? "services have no verdict yet"];
  if (instance.stands_aside !== null) {
    const { until, left_seconds: left } = instance.stands_aside;
    yield ["Stands aside", until === "time" ? `for ${span(left)} more` : "until released"];
  }
  if (instance.group !== null) yield ["Group", instance.group];
  for (const tracked of instance.tracked) {
    yield [`Tracks ${tracked.name}`, tracked.condition];
  }
  yield [
    "On",
    `${instance.interface}, ${instance.family === "ipv6" ? "IPv6" : "IPv4"}, VRRP ${instance.vrrp_version}, ` +
      `router ${instance.virtual_router_id}`,
  ];
}

function margin(title, { longest_seconds: longest, limit_seconds: limit }) {
  return [title, `${latency(longest)} of ${latency(limit)} `, longest / limit];
}
