// Small plots of the last hour, or of as much of it as is known.

import { html, mark, say, svg } from "./dom.js";

const HEIGHT = 40;
/** In minutes: a director that runs for a quarter of an hour has no use for a plot of three. */
const SPANS = [10, 30, 60];

/**
 * A plot of one or two lines that share an axis from 0 on. `update({ lines, step, words, what })` takes
 * arrays that end now, the seconds from point to point, how a value is said, and what it is of.
 */
export function plot() {
  const area = svg("path", { class: "area" });
  const second = svg("path", { class: "second line" });
  const first = svg("path", { class: "line" });
  const drawing = svg("svg", { class: "plot", role: "img", preserveAspectRatio: "none" }, area, second, first);
  const most = html("span", { class: "most", "aria-hidden": "true" });
  const element = html("div", { class: "plotted" }, most, drawing);
  const update = ({ lines, step, words, what }) => {
    const longest = Math.max(...lines.map((line) => line.length));
    const minutes = SPANS.find((span) => longest * step <= span * 60) ?? SPANS[SPANS.length - 1];
    const points = (minutes * 60) / step;
    const known = lines.flat().filter((value) => value !== null);
    const highest = known.reduce((a, b) => Math.max(a, b), 0);
    mark(drawing, "viewBox", `0 0 ${points - 1} ${HEIGHT}`);
    const [line, other = []] = lines;
    mark(first, "d", path(line, points, highest));
    mark(second, "d", path(other, points, highest));
    mark(area, "d", closed(line, points, highest));
    const text = known.length === 0 ? "not known" : `at most ${words(highest)}`;
    mark(drawing, "aria-label", `${what} in the last ${minutes} minutes: ${text}`);
    say(most, known.length === 0 ? "" : `${text} in ${minutes} min`);
  };
  return { element, update };
}

function* stretches(values, points, highest) {
  const offset = points - values.length;
  let stretch = [];
  for (const [index, value] of values.entries()) {
    if (value === null) {
      if (stretch.length > 0) yield stretch;
      stretch = [];
    } else {
      const height = highest > 0 ? value / highest : 0;
      stretch.push([offset + index, (HEIGHT - 1 - height * (HEIGHT - 3)).toFixed(1)]);
    }
  }
  if (stretch.length > 0) yield stretch;
}

function path(values, points, highest) {
  let text = "";
  for (const stretch of stretches(values, points, highest)) {
    // A single point is a line of no length, which round ends make a dot.
    const all = stretch.length === 1 ? [stretch[0], stretch[0]] : stretch;
    text += `M${all.map(([x, y]) => `${x} ${y}`).join("L")}`;
  }
  return text;
}

function closed(values, points, highest) {
  let text = "";
  for (const stretch of stretches(values, points, highest)) {
    const [from] = stretch[0];
    const [to] = stretch[stretch.length - 1];
    text += `M${from} ${HEIGHT}L${stretch.map(([x, y]) => `${x} ${y}`).join("L")}L${to} ${HEIGHT}Z`;
  }
  return text;
}
