// What happened last, newest first.

import { follow, html, say } from "./dom.js";
import { clock } from "./words.js";

const SHOWN = 50;

export function showEvents(parent, events) {
  const newest = events.slice(-SHOWN).reverse();
  follow(parent, newest, (event) => event.number, (event) => {
    const time = html("time", { datetime: event.time }, clock(new Date(event.time)));
    const severity = html("span", { class: "badge" }, event.severity);
    const what = html("span", {}, event.text);
    if (event.subject !== null && !event.text.includes(event.subject)) {
      what.prepend(html("strong", {}, event.subject), " ");
    }
    const element = html(
      "li",
      { class: `severity-${event.severity}`, "data-kind": event.kind },
      time,
      severity,
      what,
    );
    // What happened yesterday needs its date.
    return { element, update: () => say(time, clock(new Date(event.time))) };
  });
}
