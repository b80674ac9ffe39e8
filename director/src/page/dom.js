// Making and changing elements. Text only ever becomes text nodes, so nothing that a server, an operator or
// a peer wrote can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element with attributes and children (elements or text). */
export function html(name, attributes = {}, ...children) {
  return furnish(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function svg(name, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, name), attributes, children);
}

/** Sets an element's text, and touches nothing where it is that already. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute, likewise. */
export function mark(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/**
 * Makes the children of `parent` stand for `items`, in their order. What stands for an item stays the same
 * element while its key stays: focus, selection and scroll positions survive.
 * `create(item)` gives `{ element, update }`; `update(item)` is called each time.
 */
export function follow(parent, items, key, create) {
  const before = parent.following ?? new Map();
  const after = new Map([...items].map((item) => [key(item), item]));
  for (const [name, { element }] of before) {
    if (!after.has(name)) element.remove();
  }
  let place = parent.firstElementChild;
  for (const [name, item] of after) {
    const kept = before.get(name) ?? create(item);
    after.set(name, kept);
    if (kept.element === place) {
      place = place.nextElementSibling;
    } else {
      parent.insertBefore(kept.element, place);
    }
    kept.update(item);
  }
  parent.following = after;
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
