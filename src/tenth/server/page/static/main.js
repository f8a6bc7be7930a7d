// The page: which view is shown, by the address after #, and what all views share.

import { connection } from "./parts/api.js";
import { element } from "./parts/elements.js";
import { reset } from "./parts/jobs.js";
import { banner, problemBox } from "./parts/notices.js";
import { show as compare } from "./views/compare.js";
import { show as draw } from "./views/draw.js";
import { show as gallery } from "./views/gallery.js";
import { show as login } from "./views/login.js";
import { show as people } from "./views/people.js";
import { show as newPerson } from "./views/person_form.js";
import { show as picture } from "./views/picture.js";
import { show as runs } from "./views/runs.js";

// View -> how it is shown, and which entry of the menu it belongs to.
const VIEWS = {
  draw: [draw, "draw"],
  gallery: [gallery, "gallery"],
  picture: [picture, "gallery"],
  compare: [compare, "gallery"],
  people: [people, "people"],
  runs: [runs, "runs"],
};
const main = document.getElementById("main");
let leaving = new AbortController();

/** The address as {name, argument, query}: "#/picture/7?person=anna". */
function readAddress() {
  const [route, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, argument = ""] = route.split("/").map(decodePart);
  return { name: Object.hasOwn(VIEWS, name) ? name : "draw", argument, query: Object.fromEntries(new URLSearchParams(query)) };
}

function decodePart(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return ""; // no address of ours
  }
}

/** Show the address's view instead of the one that is there. focus: move the focus to its heading, as after a click. */
async function showView(focus) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { name, argument, query } = readAddress();
  const [show, entry] = name === "people" && argument === "new" ? [newPerson, "people"] : VIEWS[name];
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === entry) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const view = element("div", { class: `view ${name}-view`, "aria-busy": "true" });
  main.replaceChildren(view);
  scrollTo(0, 0);
  try {
    const title = await show(view, { argument, query, signal });
    if (signal.aborted) return;
    document.title = `${title} · tenth`;
  } catch (problem) {
    if (signal.aborted || problem.status === 401) return;
    if (!view.querySelector("h1")) view.prepend(element("h1", { tabindex: "-1" }, "This cannot be shown"));
    view.append(problemBox(problem));
  }
  view.removeAttribute("aria-busy");
  if (focus) view.querySelector("h1")?.focus();
}

function showLogin() {
  leaving.abort();
  leaving = new AbortController();
  reset();
  const view = element("div", { class: "view login-view" });
  main.replaceChildren(view);
  document.title = login(view, { done: () => showView(true) });
}

addEventListener("hashchange", () => showView(true));
connection.addEventListener("login", showLogin);
connection.addEventListener("offline", () => banner("The server does not answer. The page tries again by itself; nothing that is queued is lost."));
connection.addEventListener("online", () => {
  banner("");
  if (main.querySelector(".view > .problem, .job-column .problem")) showView(false);
});
document.getElementById("skip").addEventListener("click", () => main.focus());
showView(false);
