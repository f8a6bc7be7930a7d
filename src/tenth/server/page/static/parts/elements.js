// Elements of the page. Text is always text: nothing is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  again: "M4 10a8 8 0 1 1 2.3 5.7M4 10V4.5M4 10h5.5",
  check: "M5 12.5l4.5 4.5L19 7.5",
  close: "M6 6l12 12M18 6L6 18",
  download: "M12 4v11m-5-4.5l5 5 5-5M5 20h14",
  keep: "M7 4h10v16l-5-4-5 4z",
  plus: "M12 5v14M5 12h14",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  upload: "M12 16V5m-5 4.5l5-5 5 5M5 20h14",
};

/**
 * A new element. Attributes: onNAME functions are listeners, `style` and `dataset` are objects, true and false set and leave
 * out, anything else is an attribute's text. Children: as for `fill`.
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "style" || key === "dataset") Object.assign(made[key], value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  return fill(made, ...children);
}

/** Put children at an element's end: elements or text, in lists or not; null and false are left out. Returns the element. */
export function fill(made, ...children) {
  made.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
  return made;
}

/** One of the line drawings above, which a screen reader passes over. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  const attributes = { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button that does something. kind: primary, plain, quiet or danger. */
export function button(label, onclick, { kind = "plain", sign = null, ...attributes } = {}) {
  return element("button", { type: "button", class: `button ${kind}`, onclick, ...attributes }, sign && icon(sign), label);
}

/** A link that looks like a button. */
export function linkButton(label, href, { kind = "plain", sign = null, ...attributes } = {}) {
  return element("a", { class: `button ${kind}`, href, ...attributes }, sign && icon(sign), label);
}

let labels = 0;

/** A label above a control, with a sentence of help below it. */
export function field(label, control, help = null, attributes = {}) {
  const id = control.id || `field-${labels += 1}`;
  control.id = id;
  const note = help && element("p", { class: "help", id: `${id}-help` }, help);
  if (note) control.setAttribute("aria-describedby", note.id);
  return element("div", { class: "field", ...attributes }, element("label", { for: id }, label), control, note);
}

/** A select of [value, text] pairs. */
export function select(name, options, value = "", attributes = {}) {
  const made = element("select", { name, ...attributes });
  setOptions(made, options, value);
  return made;
}

export function setOptions(made, options, value = made.value) {
  made.replaceChildren(...options.map(([key, text]) => element("option", { value: key }, text)));
  if (options.some(([key]) => key === value)) made.value = value;
}

/** Nothing is here yet: what would be, and what to do. */
export function emptyState(title, text, ...actions) {
  return element("div", { class: "empty" }, element("h2", {}, title), element("p", {}, text), element("div", { class: "actions" }, actions));
}
