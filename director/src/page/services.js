// The services: their pools with an hour's plots, and their servers.

import { follow, html, mark, say } from "./dom.js";
import { plot } from "./plots.js";
import { STATES, worst } from "./servers.js";
import { NOTHING, count, latency, packets, rate, span } from "./words.js";

/** So many servers of a service are shown at first, those in trouble before all others. */
const FIRST = 50;
/** All others come so many at a time, so that a page of thousands never stands still. */
const STEP = 250;
/** From so many on they can be searched. */
const MANY = 20;

const NO_HISTORY = { step: 10, pools: new Map() };
let history = NO_HISTORY;

/** Takes what is plotted from now on. */
export function showHistory(told) {
  const pools = told.pools.map((pool) => [named(pool.service, pool), pool]);
  history = { step: told.step_seconds, pools: new Map(pools) };
}

export function showServices(parent, services) {
  follow(parent, services, (service) => service.name, service);
}

function named(service, pool) {
  return `${service} ${pool.family} ${pool.protocol}`;
}

function service() {
  const name = html("h3");
  const pools = html("div", { class: "pools" });
  const search = html("input", { type: "search", placeholder: "address, state or reason" });
  const found = html("label", { class: "search" }, "Find ", search);
  const heads = html("tr");
  for (const title of ["Server", "State", "Weight", "Latency", "Queries/s", "Why"]) {
    heads.append(html("th", { scope: "col" }, title));
  }
  const rows = html("tbody");
  const caption = html("caption");
  const table = html("table", {}, caption, html("thead", {}, heads), rows);
  const more = html("button", { type: "button" });
  const element = html("article", {}, name, pools, found, table, more);
  let most = FIRST;
  let frame;
  let last;
  const update = (service) => {
    last = service;
    mark(element, "data-service", service.name);
    say(name, service.name);
    follow(pools, service.pools, (one) => named(service.name, one), () => pool(service.name));
    const servers = worst(service.pools).map(described);
    const sought = search.value.trim().toLowerCase();
    const wanted = sought === "" ? servers : servers.filter((one) => one.text.toLowerCase().includes(sought));
    const shown = wanted.slice(0, most);
    found.hidden = servers.length < MANY;
    more.hidden = wanted.length <= FIRST;
    say(more, most > FIRST ? `Show ${FIRST} only` : `Show all ${count(wanted.length, "server")}`);
    say(caption, summary(servers, service.pools));
    follow(rows, shown, (one) => one.key, row);
  };
  const grow = () => {
    most += STEP;
    update(last);
    if (rows.childElementCount === most) {
      frame = requestAnimationFrame(grow);
    } else {
      most = Infinity;
    }
  };
  more.addEventListener("click", () => {
    if (most === FIRST) {
      grow();
    } else {
      cancelAnimationFrame(frame);
      most = FIRST;
      update(last);
    }
  });
  search.addEventListener("input", () => update(last));
  return { element, update };
}

function pool(service) {
  const name = html("h4");
  const health = html("p");
  const asked = figure("queries/s");
  const took = figure("latency, grey: highest");
  const element = html("div", { class: "pool" }, html("div", {}, name, health), asked.element, took.element);
  const update = (pool) => {
    const past = history.pools.get(named(service, pool));
    const what = `${service} ${packets(pool)}`;
    say(name, packets(pool));
    const bad = pool.quorum === false || pool.floor !== null || pool.sorry_server !== null;
    mark(health, "class", bad ? "health bad" : "health");
    say(health, healthOf(pool));
    const median = medianOf(pool.servers);
    asked.update(rate(pool.queries_per_second), {
      lines: [past?.queries_per_second ?? []],
      step: history.step,
      words: rate,
      what: `${what}: queries per second`,
    });
    took.update(latency(median), {
      lines: [past?.latency_seconds ?? [], past?.highest_latency_seconds ?? []],
      step: history.step,
      words: latency,
      what: `${what}: median and highest latency`,
    });
  };
  return { element, update };
}

function figure(unit) {
  const value = html("strong");
  const plotted = plot();
  const element = html("div", { class: "figure" }, html("p", {}, value, ` ${unit}`), plotted.element);
  const update = (text, drawing) => {
    say(value, text);
    plotted.update(drawing);
  };
  return { element, update };
}

function healthOf(pool) {
  const parts = [`${pool.healthy} of ${pool.servers.length} healthy`];
  if (pool.quorum === false) parts.push(`quorum lost: ${pool.needed} needed`);
  if (pool.quorum === null) parts.push("quorum not known yet");
  if (pool.floor !== null) parts.push(pool.floor);
  if (pool.sorry_server !== null) parts.push(`sorry server ${pool.sorry_server} answers`);
  return parts.join("; ");
}

function described(entry) {
  const { key, name, state, parts } = entry;
  const servers = parts.map(([, server]) => server);
  const each = (value) => {
    const values = parts.map(([pool, server]) => [packets(pool), value(server)]);
    const same = values.every(([, text]) => text === values[0][1]);
    return same ? values[0][1] : values.map(([who, text]) => `${who} ${text}`).join(", ");
  };
  const rates = servers.map((server) => server.queries_per_second).filter((value) => value !== null);
  const cells = [
    name,
    each((server) => server.state),
    each(weight),
    latency(highest(servers.map((server) => server.latency_seconds))),
    rates.length === 0 ? NOTHING : rate(rates.reduce((a, b) => a + b)),
    each(why),
  ];
  return { key, state, cells, text: cells.join(" ") };
}

function weight(server) {
  const { weight, configured_weight: configured } = server;
  return weight === configured ? `${weight}` : `${weight} of ${configured}`;
}

function why(server) {
  const parts = [];
  const { hand, failure, agent, factors, identity } = server;
  if (hand !== null) {
    const time = hand.left_seconds === null ? "" : ` for ${span(hand.left_seconds)} more`;
    parts.push(`${hand.state} by hand${time}${hand.reason === null ? "" : `: ${hand.reason}`}`);
  }
  if (failure !== null) parts.push(failure.text);
  if (agent !== null) parts.push(`it says ${agent}`);
  for (const [name, percent] of Object.entries(factors)) {
    if (percent < 100) parts.push(`${name.replace("_", " ")} ${percent} %`);
  }
  if (identity !== null) parts.push(identity);
  return parts.join("; ");
}

function row() {
  const state = html("span", { class: "badge" });
  const cells = [html("th", { scope: "row" }), html("td", {}, state)];
  for (const title of ["Weight", "Latency", "Queries/s", "Why"]) {
    cells.push(html("td", { "data-title": title }));
  }
  const places = [cells[0], state, ...cells.slice(2)];
  const element = html("tr", {}, ...cells);
  const update = (server) => {
    mark(element, "data-server", server.cells[0]);
    mark(state, "class", `badge state-${server.state}`);
    for (const [index, text] of server.cells.entries()) say(places[index], text);
  };
  return { element, update };
}

function summary(servers, pools) {
  const counts = new Map();
  for (const server of servers) counts.set(server.state, (counts.get(server.state) ?? 0) + 1);
  const parts = STATES.filter((state) => counts.has(state)).map((state) => `${counts.get(state)} ${state}`);
  const several = pools.length > 1 ? ", by the worse of their protocols" : "";
  return `${count(servers.length, "server")}: ${parts.join(", ")}${several}`;
}

function medianOf(servers) {
  const serving = servers.filter((server) => server.state === "in" || server.state === "kept");
  const known = serving.map((server) => server.latency_seconds).filter((value) => value !== null);
  known.sort((a, b) => a - b);
  return known.length === 0 ? null : known[Math.floor((known.length - 1) / 2)];
}

function highest(values) {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.max(...known);
}
