// Draw: the form, and beside it the jobs with their pictures.

import { button, element, emptyState } from "../parts/elements.js";
import { route } from "../parts/format.js";
import { follow, hasOlder, jobs, listed, listOlder } from "../parts/jobs.js";
import { notice, problemBox } from "../parts/notices.js";
import { deletePictures, pictures, saveZip } from "../parts/pictures.js";
import { selectionBar } from "../parts/selection.js";
import { drawForm } from "./draw_form.js";
import { jobCard } from "./job_card.js";

const SIDE_BY_SIDE_SECONDS = 5; // within which two jobs were sent as one comparison

export async function show(view, { query, signal }) {
  const list = element("div", { class: "jobs" });
  const place = element("div", { "aria-live": "off" }, list);
  const more = button("Show older", () => listOlder().then(arrange).catch(problem => notice(problem.message)), { kind: "quiet" });
  const form = element("section", { class: "form-column", "aria-label": "What to draw" });
  const failed = problem => notice(problem.message);
  view.append(
    element("h1", { tabindex: "-1" }, "Draw"),
    element(
      "div",
      { class: "columns" },
      form,
      element("section", { class: "job-column", "aria-labelledby": "drawn" }, element("h2", { id: "drawn" }, "Drawings"), place, more),
    ),
    selectionBar({ saveZip, deletePictures, failed }, signal),
  );
  const cards = new Map();
  const boxes = new Map(); // of cards side by side

  // Cards stay as they are and are only put in order, so that nothing jumps under a pointer or loses the focus.
  function arrange() {
    const groups = grouped(listed());
    for (const job of groups.flat()) if (!cards.has(job.id)) cards.set(job.id, jobCard(job));
    const wanted = groups.map(group => groupElement(group, cards, boxes));
    wanted.forEach((one, index) => {
      if (list.children[index] !== one) list.insertBefore(one, list.children[index] ?? null);
    });
    while (list.children.length > wanted.length) list.lastChild.remove();
    more.hidden = !hasOlder();
    for (const one of place.querySelectorAll(":scope > .empty, :scope > .problem")) one.remove();
    if (!wanted.length) place.append(emptyState("Nothing is drawn yet", "Choose a person, say what the picture shows, and press Draw."));
  }
  jobs.addEventListener("change", event => {
    const job = event.detail;
    cards.get(job.id)?.update(job);
    arrange();
  }, { signal });
  jobs.addEventListener("gone", event => {
    cards.delete(event.detail.id);
    arrange();
  }, { signal });
  pictures.addEventListener("removed", event => {
    for (const tile of list.querySelectorAll(".tile")) if (tile.dataset.id === event.detail.id) tile.remove();
  }, { signal });
  const following = follow().then(arrange).catch(problem => {
    if (!signal.aborted) place.append(problemBox(problem));
  });
  form.append(await drawForm(query, signal));
  await following;
  return "Draw";
}

/** Jobs that differ in their method alone and were sent together stand side by side. */
function grouped(all) {
  const groups = [];
  for (const job of all) {
    const last = groups.at(-1);
    if (last?.length === 1 && together(last[0], job)) last.push(job);
    else groups.push([job]);
  }
  return groups.map(group => group.toReversed());
}

function together(one, other) {
  const same = job => JSON.stringify([job.person, { ...job.request, method: null }]);
  const near = Math.abs(one.created - other.created) < SIDE_BY_SIDE_SECONDS;
  return near && one.request?.method !== other.request?.method && same(one) === same(other);
}

function groupElement(group, cards, boxes) {
  const parts = group.map(job => cards.get(job.id).card);
  if (parts.length === 1) return parts[0];
  const key = group.map(job => job.id).join();
  const made = boxes.get(key) ?? element("div", { class: "side-by-side" });
  boxes.set(key, made);
  if (parts.some(part => part.parentElement !== made)) made.replaceChildren(...parts);
  compareLink(made, group);
  return made;
}

/** A link to the pictures of both, seed by seed, once they are there. */
function compareLink(made, group) {
  made.querySelector(".compare-both")?.remove();
  if (!group.every(job => job.status === "done" && job.pictures?.length)) return;
  const ids = group[0].pictures.flatMap((_, index) => group.map(job => job.pictures[index])).filter(Boolean);
  made.append(element("a", { class: "compare-both", href: route(["compare", ids.join(",")]) }, "Compare the two methods"));
}
