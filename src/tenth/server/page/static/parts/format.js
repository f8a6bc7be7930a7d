// Numbers, times and words as they are read.

const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

export function plural(count, noun, nouns = `${noun}s`) {
  return `${count.toLocaleString()} ${count === 1 ? noun : nouns}`;
}

/** Seconds since 1970, or an ISO text, as a date with its time; "" of nothing. */
export function time(value) {
  const date = toDate(value);
  return date ? TIME.format(date) : "";
}

/** The same as a day. */
export function day(value) {
  const date = toDate(value);
  return date ? DAY.format(date) : "";
}

function toDate(value) {
  if (value === null || value === undefined || value === "") return null;
  const date = new Date(typeof value === "number" ? value * 1000 : /^\d{4}-\d\d-\d\d$/.test(value) ? `${value}T00:00` : value);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** A figure in three places, yes or no; text as it is. */
export function figure(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
  return Number.isInteger(value) ? value.toLocaleString() : value.toPrecision(3);
}

/** Identity of a picture, or null where it was not measured. */
export function identityText(picture) {
  return typeof picture.identity === "number" ? picture.identity.toFixed(2) : null;
}

export function shorten(text, most = 90) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** One of the addresses of the API: each part is encoded. */
export function path(...parts) {
  return `/${parts.map(encodeURIComponent).join("/")}`;
}

/** A view's address, with a query of those values that are not empty. */
export function route(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = given.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&");
  return `#${path(...parts)}${text ? `?${text}` : ""}`;
}
