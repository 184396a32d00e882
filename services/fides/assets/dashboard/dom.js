// Elements and texts. Everything that is shown goes through textContent: what a record or a fault says is never markup.

const SVG = "http://www.w3.org/2000/svg";

export const find = (selector, within = document) => within.querySelector(selector);

// make("td", { class: "bad", title: "…" }, "text", another)
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// Touches the document only where something changed: no flicker, and what is selected stays so.
export function say(element, text) {
  const said = String(text);
  if (element.textContent !== said) element.textContent = said;
}

export function dress(element, name) {
  if (element.className !== name) element.className = name;
}

// Keeps one child for each item, by key and in order. `update(child, item)` fills it.
export function keep(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, at) => {
    const key = String(keyOf(item));
    let child = known.get(key);
    if (child) known.delete(key);
    else {
      child = create(item);
      child.dataset.key = key;
    }
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
    update(child, item);
  });
  known.forEach((child) => child.remove());
}

// A table's rows: `cells(item)` gives texts, or [text, class].
export function rows(table, none, items, keyOf, labels, cells) {
  table.hidden = items.length === 0;
  none.hidden = items.length > 0;
  const create = () => make("tr", {}, ...labels.map((label) => make("td", { "data-label": label }, make("span"))));
  keep(find("tbody", table), items, keyOf, create, (row, item) => {
    cells(item).forEach((cell, at) => {
      const [text, name] = Array.isArray(cell) ? cell : [cell, ""];
      const span = row.children[at].firstChild;
      say(span, text);
      dress(span, name);
    });
  });
}

const NUMBER = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
export const number = (value) => NUMBER.format(value);
export const count = (value, thing) => `${number(value)} ${thing}${value === 1 ? "" : "s"}`;
export const rate = (value) => (value > 0 && value < 10 ? value.toFixed(1) : number(value));

// A part of a whole in per cent, never rounded up to a hundred.
export const share = (part, whole) => (whole > 0 ? `${(Math.floor((part * 1000) / whole) / 10).toFixed(1)} %` : "–");

export const instant = (ms) => `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;

export function lasted(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}
