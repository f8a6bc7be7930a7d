// A job: what it draws, how far it is, its preview, its pictures, or its error in three parts.

import { get, post, remove, send } from "../parts/api.js";
import { button, element, linkButton } from "../parts/elements.js";
import { path, plural, route, shorten, time } from "../parts/format.js";
import { isActive, learn } from "../parts/jobs.js";
import { notice, problemBox } from "../parts/notices.js";
import { details, pictureTile } from "../parts/pictures.js";

const STATUS = { queued: "Waiting", running: "Drawing", done: "Done", failed: "Failed", cancelled: "Cancelled" };

/** A card with `update(job)`. */
export function jobCard(job) {
  const card = element("article", { class: "job", dataset: { id: job.id }, "aria-labelledby": `job-${job.id}` });
  const status = element("p", { class: "status" });
  const line = element("p", { class: "job-line" });
  const bar = element("progress", { "aria-label": "Progress" });
  const preview = element("div", { class: "preview" });
  const grid = element("ul", { class: "tiles small", role: "list" });
  const problem = element("div");
  const notes = element("ul", { class: "notes help", "aria-label": "Notes" });
  const actions = element("div", { class: "actions" });
  const shown = { pictures: new Set(), asking: false, status: null };
  card.append(
    element("header", {}, element("h3", { id: `job-${job.id}` }, titleOf(job)), status),
    element("p", { class: "job-settings" }, settingsOf(job)),
    line, bar, preview, grid, problem, notes, actions,
  );

  function update(now) {
    card.dataset.status = now.status;
    status.textContent = STATUS[now.status] || now.status;
    line.textContent = progressOf(now);
    bar.hidden = !isActive(now);
    if (now.status === "running" && now.total) Object.assign(bar, { max: now.total, value: now.done });
    else bar.removeAttribute("value");
    if (now.status === "running") showPreview(now, preview, shown);
    else preview.replaceChildren();
    showPictures(now, grid, shown.pictures);
    // What has not changed stays: an alert is not said twice, and a button keeps the focus.
    ifChanged("error", now.error, () => problem.replaceChildren(...(now.error ? [problemBox(now.error)] : [])));
    ifChanged("notes", now.notes, () => notes.replaceChildren(...(now.notes ?? []).map(note => element("li", {}, note))));
    notes.hidden = !now.notes?.length;
    ifChanged("actions", [now.status, now.pictures], () => actions.replaceChildren(...actionsOf(now)));
    if (shown.status && isActive({ status: shown.status }) && !isActive(now)) notice(`${STATUS[now.status] ?? now.status}: ${titleOf(now)}`);
    shown.status = now.status;
  }

  function ifChanged(key, value, redo) {
    const text = JSON.stringify(value ?? null);
    if (shown[key] !== text) redo();
    shown[key] = text;
  }
  update(job);
  return { card, update };
}

export function titleOf(job) {
  const prompts = job.request?.prompts ?? [];
  const more = prompts.length > 1 ? ` and ${plural(prompts.length - 1, "more prompt")}` : "";
  return `${shorten(prompts[0] || "Pictures")}${more}`;
}

function settingsOf(job) {
  const { method, model, num_images: count, seed } = job.request ?? {};
  const seeds = Number.isFinite(seed) ? (count > 1 ? `seeds ${seed} to ${seed + count - 1}` : `seed ${seed}`) : null;
  return [job.person, method || "default method", model, seeds, time(job.created)].filter(Boolean).join(" · ");
}

function progressOf(job) {
  if (job.status === "queued") return job.position ? `${plural(job.position, "drawing")} before it.` : "Next in the queue.";
  if (job.status === "running") return job.total ? `${Math.floor((100 * job.done) / job.total)} %` : "Starting…";
  return "";
}

/** The picture as far as it is drawn; a new one takes its place without a gap. */
async function showPreview(job, place, shown) {
  if (shown.asking) return;
  shown.asking = true;
  try {
    const answer = await send("GET", `${path("v1", "jobs", job.id)}/preview`);
    if (answer.status === 204) return;
    const address = URL.createObjectURL(await answer.blob());
    const image = element("img", { src: address, alt: `Preview of ${titleOf(job)}` });
    image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
    if (shown.status === "running") place.replaceChildren(image);
  } catch {
    // there is none yet: the next step may bring one
  } finally {
    shown.asking = false;
  }
}

function showPictures(job, grid, shown) {
  for (const id of job.pictures ?? []) {
    if (shown.has(id)) continue;
    shown.add(id);
    const slot = element("li", { class: "tile waiting" });
    grid.append(slot);
    details(id).then(picture => slot.replaceWith(pictureTile(picture)), () => slot.remove());
  }
}

function actionsOf(job) {
  const trying = task => () => task().then(told => told && learn(told)).catch(problem => notice(problem.message));
  const address = path("v1", "jobs", job.id);
  if (isActive(job)) return [button("Cancel", trying(async () => (await remove(address)) ?? get(address)), { sign: "close" })];
  if (job.status === "failed" || job.status === "cancelled") {
    return [button("Try again", trying(async () => (await post(`${address}/retry`)) ?? get(address)), { sign: "again" })];
  }
  const several = (job.pictures ?? []).length > 1;
  return [several && linkButton("Compare", route(["compare", job.pictures.join(",")]), { kind: "quiet", class: "button quiet compare-own" })].filter(Boolean);
}
