// Figures and times in words.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const NOTHING = "–";

/** A rate: "1,230", "0.4"; a dash where it isn't known. */
export function rate(value) {
  if (value === null || value === undefined) return NOTHING;
  return value >= 100 ? WHOLE.format(value) : SHORT.format(Math.round(value * 10) / 10);
}

/** A latency of so many seconds: "0.42 ms", "1.2 s". */
export function latency(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  return seconds < 1 ? `${SHORT.format(seconds * 1000)} ms` : `${SHORT.format(seconds)} s`;
}

/** A time of so many seconds, to two units: "3 d 4 h", "12 min", "8 s". */
export function span(seconds) {
  const whole = Math.floor(seconds);
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([length]) => whole >= length);
  if (first < 0) return "0 s";
  let rest = whole;
  const parts = [];
  for (const [length, unit] of units.slice(first, first + 2)) {
    const count = Math.floor(rest / length);
    rest -= count * length;
    if (count > 0) parts.push(`${count} ${unit}`);
  }
  return parts.join(" ");
}

/** A point in time here: the time alone today, with the date otherwise. */
export function clock(date) {
  const two = (number) => String(number).padStart(2, "0");
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}

/** How many: "1 server", "1,000 servers". */
export function count(number, noun) {
  return `${WHOLE.format(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** What a pool's packets are: "UDP", "TCP over IPv6". */
export function packets(pool) {
  const protocol = pool.protocol === null ? "marked" : pool.protocol.toUpperCase();
  return pool.family === "ipv6" ? `${protocol} over IPv6` : protocol;
}
