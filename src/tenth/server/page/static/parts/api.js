// Requests to the API. Each failure is a Problem of three parts: what was found, what is needed, what to do.

import { path } from "./format.js";

export class Problem extends Error {
  constructor({ found, needed = "", action = "", message = "" }, status = 0, retryAfter = null) {
    super(message || [found, needed, action].filter(Boolean).join("; "));
    Object.assign(this, { found: found || message, needed, action, status, retryAfter });
  }
}

/** Listeners: "login" when a token is needed, "offline" when the server does not answer, "online" when it does again. */
export const connection = new EventTarget();
let waiting = null;
const SECONDS_BETWEEN_TRIES = 3;

function tell(name) {
  connection.dispatchEvent(new Event(name));
}

/** Ask for the server's health until it answers. */
function waitForServer() {
  if (waiting) return;
  tell("offline");
  waiting = setInterval(async () => {
    const answer = await fetch("/health", { cache: "no-store" }).catch(() => null);
    if (!answer) return;
    clearInterval(waiting);
    waiting = null;
    tell("online");
  }, SECONDS_BETWEEN_TRIES * 1000);
}

/**
 * The answer, if it is a good one. options: those of fetch; `json`, which is sent as such; `quiet`: a refusal for want of a
 * token opens no login.
 */
export async function send(method, address, { json, headers = {}, quiet = false, ...options } = {}) {
  const body = json === undefined ? options.body : JSON.stringify(json);
  const sent = json === undefined ? headers : { "Content-Type": "application/json", ...headers };
  let answer;
  try {
    answer = await fetch(address, { method, cache: "no-cache", credentials: "same-origin", ...options, body, headers: sent });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    waitForServer();
    throw new Problem({
      found: "the server does not answer", needed: "it has to run", action: "Start it again in the terminal; the page goes on by itself",
    });
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && !quiet) tell("login");
  throw await toProblem(answer);
}

async function toProblem(answer) {
  const told = await answer.json().catch(() => ({}));
  const seconds = Number.parseFloat(answer.headers.get("Retry-After"));
  const error = told.error || { found: `the server answered ${answer.status} ${answer.statusText}`.trim() };
  return new Problem(error, answer.status, Number.isFinite(seconds) ? seconds : null);
}

async function toJson(answer) {
  return answer.status === 204 ? null : answer.json();
}

export const get = async (address, options) => toJson(await send("GET", address, options));
export const post = async (address, json, options) => toJson(await send("POST", address, { json, ...options }));
export const put = async (address, json) => toJson(await send("PUT", address, { json }));
export const patch = async (address, json) => toJson(await send("PATCH", address, { json }));
export const remove = async address => toJson(await send("DELETE", address));

/** An address with a query of those values that are given. */
export function query(address, values) {
  const given = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== ""));
  return given.size ? `${address}?${given}` : address;
}

export const imageAddress = id => `${path("v1", "pictures", id)}/image.png`;
export const thumbnailAddress = id => `${path("v1", "pictures", id)}/thumbnail.png`;
