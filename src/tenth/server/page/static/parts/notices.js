// What the page says beside its views: notices, problems in three parts, questions before something is lost.

import { button, element } from "./elements.js";

const SECONDS_SHOWN = 6;

/** A sentence that goes away by itself; a screen reader says it. */
export function notice(text) {
  const shown = element("p", { class: "notice" }, text);
  document.getElementById("notices").append(shown);
  setTimeout(() => shown.remove(), SECONDS_SHOWN * 1000);
}

/** The line on top that stays until it is cleared by "". */
export function banner(text) {
  document.getElementById("banner").replaceChildren(...(text ? [element("p", { class: "banner" }, text)] : []));
}

/** A problem in its three parts, each on a line of its own. problem: a Problem, or a job's error. */
export function problemBox(problem, ...actions) {
  const { found, needed, action, retryAfter } = problem;
  const seconds = retryAfter ? `The server takes more in ${Math.ceil(retryAfter)} s.` : null;
  return element(
    "div",
    { class: "problem", role: "alert" },
    element("p", { class: "found" }, sentence(found || problem.message || "Something went wrong")),
    needed && element("p", {}, sentence(needed)),
    action && element("p", {}, sentence(action)),
    seconds && element("p", {}, seconds),
    actions.length ? element("div", { class: "actions" }, actions) : null,
  );
}

function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?:]$/.test(begun) ? begun : `${begun}.`;
}

/** Put what a task's failure says into a place, and empty it when the task goes well. Returns whether it did. */
export async function showingProblems(place, task) {
  place.replaceChildren();
  try {
    await task();
    return true;
  } catch (problem) {
    if (problem.name !== "AbortError") place.replaceChildren(problemBox(problem));
    return false;
  }
}

/** Ask before something is lost. True if the answer is yes; Escape and the other button are a no. */
export function confirmed({ title, text, action }) {
  return new Promise(resolve => {
    const dialog = element(
      "dialog",
      { "aria-labelledby": "question", "aria-describedby": "consequence" },
      element("h2", { id: "question" }, title),
      element("p", { id: "consequence" }, text),
      element(
        "div",
        { class: "actions end" },
        button("Cancel", () => dialog.close("no"), { autofocus: true }),
        button(action, () => dialog.close("yes"), { kind: "danger" }),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
