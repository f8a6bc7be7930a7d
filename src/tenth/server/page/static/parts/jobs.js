// The jobs as the server has them: listed once, then kept up by its events, or by asking again where events do not come.

import { get, query } from "./api.js";
import { path } from "./format.js";

const POLL_SECONDS = 2;
const PAGE = 12;
const ACTIVE = new Set(["queued", "running"]);

export const isActive = job => ACTIVE.has(job.status);

/** Listeners: "change", whose detail is the job that is new or other than it was; "gone", whose detail has the id. */
export const jobs = new EventTarget();
const known = new Map();
const heard = new Map(); // by job, which event was the last of it
let numHeard = 0;
let source = null;
let polling = null;
let following = false; // whether some view wants to know
let older = null; // the cursor of what is not listed yet

/** All known jobs, the newest first. */
export function listed() {
  return [...known.values()].sort((one, other) => other.created - one.created);
}

export const hasOlder = () => older !== null;

/** Take a job as it is now. One that is active is told of even if it is as before: its preview may be another. */
export function learn(job) {
  const before = known.get(job.id);
  if (before && !isActive(job) && JSON.stringify(before) === JSON.stringify(job)) return;
  known.set(job.id, job);
  jobs.dispatchEvent(new CustomEvent("change", { detail: job }));
}

/** Read the newest jobs, and keep up with them from now on: even if they cannot be read yet. */
export async function follow() {
  following = true;
  try {
    await refresh();
  } finally {
    if (following && !document.hidden && !source && !polling) listen();
  }
}

async function refresh() {
  const before = numHeard;
  const page = await get(query("/v1/jobs", { limit: PAGE }));
  page.data.filter(job => !(heard.get(job.id) > before)).forEach(learn); // an event meanwhile is newer than the list may be
  if (known.size <= page.data.length) older = page.next ?? null;
  // Old ones are not on the first page: what still seems to run is asked for by itself. So is a newer one, which may be gone.
  const seen = new Set(page.data.map(job => job.id));
  const oldest = page.next ? page.data.at(-1).created : -Infinity;
  const unseen = [...known.values()].filter(job => !seen.has(job.id) && (isActive(job) || job.created > oldest));
  await Promise.all(unseen.map(job => reload(job.id)));
}

async function reload(id) {
  try {
    learn(await get(path("v1", "jobs", id)));
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    known.delete(id);
    heard.delete(id);
    jobs.dispatchEvent(new CustomEvent("gone", { detail: { id } }));
  }
}

export async function listOlder() {
  const page = await get(query("/v1/jobs", { limit: PAGE, before: older }));
  page.data.forEach(learn);
  older = page.next ?? null;
}

function listen() {
  source = new EventSource("/v1/events");
  source.addEventListener("open", () => {
    refresh().catch(() => {}); // what happened since the jobs were listed, or while it was closed
    stopPolling();
  });
  source.addEventListener("job", event => {
    const job = JSON.parse(event.data);
    heard.set(job.id, ++numHeard);
    learn(job);
  });
  source.addEventListener("error", () => {
    startPolling(); // until it opens again, which the browser tries unless it was refused
    if (source.readyState === EventSource.CLOSED) source = null;
  });
}

/** A page that nobody sees holds no connection, of which a browser has six for all its tabs. */
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    source?.close();
    source = null;
    stopPolling();
  } else if (following) follow().catch(() => {});
});

function startPolling() {
  polling ??= setInterval(() => refresh().catch(() => {}), POLL_SECONDS * 1000);
}

function stopPolling() {
  clearInterval(polling);
  polling = null;
}

/** Forget all, as after logging in as somebody else. */
export function reset() {
  source?.close();
  source = null;
  stopPolling();
  following = false;
  known.clear();
  heard.clear();
  older = null;
}
