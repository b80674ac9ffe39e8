// The way of a query, drawn: clients, who holds the VIPs, services and their servers. From left to right
// where there is room, from top to bottom on a phone. What it says is in the lists below it too.

import { mark, svg } from "./dom.js";
import { STATES, worst } from "./servers.js";
import { count, packets, rate } from "./words.js";

const WIDE = 720;
const MARGIN = 2;
const LINE = 18;
const PAD = 10;
const GAP = 14;
/** Between two columns, for the arrows. */
const WAY = 56;
/** So many servers have a box with their name, more a square each. */
const NAMED = 8;
const SQUARE = 10;
/** A letter at 13 px is about as wide. */
const LETTER = 7.2;

let view = null;
let drawn = "";

export function showTopology(parent, status) {
  if (view === null) new ResizeObserver(() => draw(parent)).observe(parent);
  view = viewOf(status);
  draw(parent);
}

function draw(parent) {
  const { paddingLeft, paddingRight } = getComputedStyle(parent);
  const width = Math.max(240, parent.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight));
  // Most answers change nothing that is drawn.
  const now = JSON.stringify([width, view]);
  if (now === drawn) return;
  drawn = now;
  parent.replaceChildren(width >= WIDE ? across(view, width) : down(view, width));
}

/** What is drawn, and nothing else. */
function viewOf(status) {
  const here = { name: status.node, note: "this director", rows: [], serves: false };
  const others = new Map();
  const vips = [];
  for (const instance of status.instances) {
    here.rows.push([instance.name, instance.state]);
    vips.push(...instance.addresses);
    if (instance.state === "active") here.serves = true;
    if (instance.state !== "active" && instance.active !== null) {
      const { address } = instance.active;
      const other = others.get(address) ?? { name: address, note: "other director", rows: [], serves: true };
      other.rows.push([instance.name, "active"]);
      others.set(address, other);
    }
  }
  if (status.instances.length === 0) {
    here.rows.push(["no virtual router", ""]);
    here.serves = true;
  }
  return {
    vips: vips.map((vip) => vip.split("/")[0]),
    directors: [here, ...others.values()],
    services: status.services.map(serviceOf),
  };
}

function serviceOf({ name, pools }) {
  const servers = worst(pools).map(({ name: server, state }) => ({ name: server, state }));
  const asked = pools
    .filter((pool) => pool.queries_per_second !== null)
    .map((pool) => `${packets(pool)} ${rate(pool.queries_per_second)}/s`);
  const without = pools.some((pool) => pool.quorum === false);
  return { name, asked: asked.join(", "), without, servers };
}

function across(view, width) {
  const room = width - 2 * MARGIN - 2 * WAY;
  const [clients, directors] = [150, Math.round(room * 0.28)];
  const services = room - clients - directors;
  const second = MARGIN + clients + WAY;
  const third = second + directors + WAY;
  const middle = stack(view.directors, (one, y) => directorBox(one, second, y, directors));
  const right = stack(view.services, (one, y) => serviceBox(one, third, y, services));
  const height = Math.max(middle.height, right.height, 60);
  const down = Math.round((height - middle.height) / 2);
  const queries = clientsBox(view, MARGIN, Math.round(height / 2) - 28, clients, 56);
  const arrows = [];
  for (const box of middle.boxes) {
    const y = box.y + down + box.height / 2;
    const serves = box.of.serves;
    arrows.push(arrow([MARGIN + clients, height / 2], [second, y], serves, "across"));
    for (const target of right.boxes) {
      const to = [third, target.y + Math.min(target.height / 2, 40)];
      if (serves) arrows.push(arrow([second + directors, y], to, true, "across"));
    }
  }
  const moved = svg("g", { transform: `translate(0 ${down})` }, ...middle.elements);
  return whole(view, width, height, [...arrows, queries, moved, ...right.elements]);
}

function down(view, width) {
  const inner = width - 2 * MARGIN;
  const top = 40 + (view.vips.length > 0 ? LINE : 0);
  const queries = clientsBox(view, MARGIN, 0, inner, top);
  // Two directors side by side, so that each way leads past the other.
  const columns = Math.min(2, view.directors.length);
  const each = (inner - (columns - 1) * GAP) / columns;
  const elements = [];
  const ways = [];
  let [y, lowest] = [top + 26, top + 26];
  for (const [index, one] of view.directors.entries()) {
    const x = MARGIN + (index % columns) * (each + GAP);
    if (index > 0 && index % columns === 0) y = lowest + GAP;
    const box = directorBox(one, x, y, each);
    elements.push(box.element);
    ways.push({ x: x + each / 2, y, end: y + box.height, serves: one.serves });
    lowest = Math.max(lowest, y + box.height);
  }
  const below = lowest + 26;
  const services = stack(view.services, (one, from) => serviceBox(one, MARGIN, from, inner), below);
  const arrows = [];
  for (const way of ways) {
    arrows.push(arrow([way.x, top], [way.x, way.y], way.serves, "down"));
    if (way.serves) arrows.push(arrow([way.x, way.end], [way.x, below], true, "down"));
  }
  const height = Math.max(services.height, lowest);
  return whole(view, width, height, [...arrows, queries, ...elements, ...services.elements]);
}

function whole(view, width, height, elements) {
  const label = [
    ...view.directors.map((one) => `${one.name}: ${one.rows.map((row) => row.join(" ")).join(", ")}`),
    ...view.services.map((one) => `${one.name}: ${count(one.servers.length, "server")}`),
  ].join("; ");
  const size = { width, height: height + 2, viewBox: `0 0 ${width} ${height + 2}` };
  const drawing = svg("svg", { ...size, role: "img" }, ...elements);
  mark(drawing, "aria-label", `Clients ask the holder of the VIPs, which forwards to the servers. ${label}`);
  return drawing;
}

/** Boxes one below the other. */
function stack(things, box, from = 1) {
  const boxes = [];
  const elements = [];
  let y = from;
  for (const thing of things) {
    const made = box(thing, y);
    boxes.push({ of: thing, y, height: made.height });
    elements.push(made.element);
    y += made.height + GAP;
  }
  return { boxes, elements, height: Math.max(from, y - GAP) };
}

function clientsBox(view, x, y, width, height) {
  const group = svg("g", { class: "clients" }, frame(x, y + 1, width, height - 2, ""));
  group.append(words(x + width / 2, y + 25, "clients", "centred", width));
  if (view.vips.length > 0) {
    group.append(words(x + width / 2, y + 25 + LINE, `ask ${view.vips.join(", ")}`, "centred quiet", width));
  }
  return group;
}

function directorBox(one, x, y, width) {
  const height = 2 * PAD + LINE * (2 + one.rows.length);
  const group = svg("g", { class: one.serves ? "director serves" : "director" });
  group.append(frame(x, y, width, height, one.serves ? "serving" : ""));
  group.append(words(x + PAD, y + PAD + 13, one.name, "strong", width - 2 * PAD));
  group.append(words(x + PAD, y + PAD + 13 + LINE, one.note, "quiet", width - 2 * PAD));
  for (const [index, [name, state]] of one.rows.entries()) {
    const line = y + PAD + 13 + LINE * (2 + index);
    group.append(words(x + PAD, line, name, "", width / 2));
    group.append(words(x + width - PAD, line, state, `end role-${state}`, width / 2));
  }
  return { element: group, height };
}

function serviceBox(one, x, y, width) {
  const group = svg("g", { class: "service" });
  const inner = width - 2 * PAD;
  const top = y + PAD + LINE + 8;
  const servers = one.servers.length <= NAMED ? named(one, x + PAD, top, inner) : squares(one, x + PAD, top, inner);
  const height = 2 * PAD + LINE + 8 + servers.height;
  group.append(frame(x, y, width, height, one.without ? "failing" : ""));
  group.append(words(x + PAD, y + PAD + 13, one.name, "strong", inner / 2));
  const note = one.without ? "quorum lost" : one.asked || count(one.servers.length, "server");
  group.append(words(x + width - PAD, y + PAD + 13, note, "end quiet", inner / 2));
  group.append(...servers.elements);
  return { element: group, height };
}

function named(one, x, y, width) {
  const columns = width >= 420 ? 2 : 1;
  const each = (width - (columns - 1) * 8) / columns;
  const elements = one.servers.map(({ name, state }, index) => {
    const left = x + (index % columns) * (each + 8);
    const upper = y + Math.floor(index / columns) * 30;
    const box = svg("rect", { x: left, y: upper, width: each, height: 24, rx: 4, class: `server state-${state}` });
    const group = svg("g", {}, box);
    group.append(words(left + 8, upper + 17, name, "", each - 90));
    group.append(words(left + each - 8, upper + 17, state, "end", 80));
    return group;
  });
  return { elements, height: Math.ceil(one.servers.length / columns) * 30 - 6 };
}

/** One path for all servers of a state, in the order of the list: thousands are few elements. */
function squares(one, x, y, width) {
  const step = SQUARE + 2;
  const columns = Math.max(1, Math.floor(width / step));
  const paths = new Map(STATES.map((state) => [state, []]));
  for (const [index, { state }] of one.servers.entries()) {
    const left = x + (index % columns) * step;
    const upper = y + Math.floor(index / columns) * step;
    // Not by colour alone: what is out is hollow, what takes nothing new is half.
    paths.get(state).push(shape(state, left, upper));
  }
  const elements = [...paths]
    .filter(([, path]) => path.length > 0)
    .map(([state, path]) => svg("path", { class: `server squares state-${state}`, d: path.join("") }));
  return { elements, height: Math.ceil(one.servers.length / columns) * step };
}

function shape(state, x, y) {
  const [size, half] = [SQUARE, SQUARE / 2];
  if (state === "out" || state === "disabled" || state === "unknown") {
    return `M${x + 1} ${y + 1}h${size - 2}v${size - 2}h${2 - size}z${state === "out" ? `l${size - 2} ${size - 2}` : ""}`;
  }
  return `M${x} ${y}h${size}v${state === "in" ? size : half}h${-size}z`;
}

function frame(x, y, width, height, kind) {
  return svg("rect", { x, y, width, height, rx: 6, class: `frame ${kind}` });
}

function words(x, y, text, kind, room) {
  const most = Math.floor(room / LETTER);
  const short = text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text;
  const element = svg("text", { x, y, class: kind }, short);
  if (short !== text) element.append(svg("title", {}, text));
  return element;
}

function arrow([fromX, fromY], [toX, toY], serves, way) {
  const middle = way === "across" ? (fromX + toX) / 2 : (fromY + toY) / 2;
  const bend =
    way === "across"
      ? `C${middle} ${fromY} ${middle} ${toY} ${toX} ${toY}m-7 -5l7 5l-7 5`
      : `C${fromX} ${middle} ${toX} ${middle} ${toX} ${toY}m-5 -7l5 7l5 -7`;
  return svg("path", { class: serves ? "way" : "way idle", d: `M${fromX} ${fromY}${bend}` });
}
