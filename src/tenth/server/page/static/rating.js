// The page of `tenth benchmark rate`: one pair after another. It does not know which system an image is of.

import { connection, get, post, put, send } from "./parts/api.js";
import { button, element, fill } from "./parts/elements.js";
import { path, plural } from "./parts/format.js";
import { banner, problemBox } from "./parts/notices.js";

const KEYS = {
  ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", ArrowDown: "tie", 0: "tie", "=": "tie", s: "skip",
  ArrowUp: "back", Backspace: "back", b: "back",
};
const SIDES = ["left", "right"];
const main = document.getElementById("main");
let shown = null; // the pair that is there, as the server describes it
let whole = false; // whether both of its images are there
let busy = true; // until they have been asked for, and while a choice is stored

const address = (...parts) => path("v1", "rating", ...parts.map(String));
const images = new Map(); // address -> promise of a blob's address, for this pair and the next

/** An image's own address in this page; it is asked for once. */
function load(source) {
  if (!images.has(source)) {
    const loading = send("GET", source).then(async answer => URL.createObjectURL(await answer.blob()));
    loading.catch(() => images.delete(source)); // and asked for again when it is shown again
    images.set(source, loading);
  }
  return images.get(source);
}

/** All addresses of a pair's images: both sides, then the photos. */
function sources({ index, photos }) {
  const numbers = Array.from({ length: photos }, (_, number) => number);
  return [...SIDES.map(side => address(index, `${side}.png`)), ...numbers.map(number => address(index, "photos", `${number}.png`))];
}

function forgetAllBut(kept) {
  for (const [source, loading] of images) {
    if (kept.includes(source)) continue;
    images.delete(source);
    loading.then(URL.revokeObjectURL, () => null);
  }
}

/** Show a pair, or that there is none left. */
async function show(view) {
  busy = true;
  shown = view;
  if (view.index === null) {
    forgetAllBut([]);
    showEnd(view);
    busy = false;
    return;
  }
  const wanted = sources(view);
  const known = await Promise.all(wanted.map(load)).catch(problem => problem);
  whole = !(known instanceof Error);
  if (whole) showPair(view, known);
  else showPair(view, [], problemBox(known));
  forgetAllBut(wanted);
  busy = false;

  // The next pair's images, so that nobody waits for them.
  if (view.index + 1 < view.pairs) get(address(view.index + 1)).then(next => sources(next).forEach(load), () => null);
}

function showPair(view, [left, right, ...photos], problem = null) {
  const choose = choice => () => act(choice);
  const side = (name, source) => element(
    "button",
    { type: "button", class: "side", "aria-pressed": String(view.choice === name), "aria-label": `The ${name} image`, onclick: choose(name) },
    element("img", { src: source, alt: "" }),
  );
  main.replaceChildren(fill(
    element("div", { class: "view rating" }),
    progress(view),
    element("h1", {}, view.question),
    view.prompt && element("p", { class: "prompt" }, view.prompt),
    photos.length > 0 && element(
      "ul", { class: "photos", "aria-label": "Photos of the person", tabindex: "0" },
      photos.map((source, number) => element("li", {}, element("img", { src: source, alt: `Photo ${number + 1} of the person` }))),
    ),
    problem || element("div", { class: "sides" }, side("left", left), side("right", right)),
    element(
      "div", { class: "actions choices" },
      !problem && button("Left", choose("left"), { "aria-keyshortcuts": "ArrowLeft" }),
      !problem && button("Equal", choose("tie"), { "aria-keyshortcuts": "ArrowDown", "aria-pressed": String(view.choice === "tie") }),
      !problem && button("Right", choose("right"), { "aria-keyshortcuts": "ArrowRight" }),
      button("Skip", choose("skip"), { kind: "quiet", "aria-keyshortcuts": "s", "aria-pressed": String(view.choice === "skip") }),
      button("Back", choose("back"), { kind: "quiet", "aria-keyshortcuts": "ArrowUp", disabled: view.index === 0 }),
    ),
    element("p", { class: "help keys" }, "Keys: ← left, → right, ↓ equal, S skip, ↑ back to the one before."),
  ));
}

function showEnd(view) {
  main.replaceChildren(fill(
    element("div", { class: "view rating" }),
    progress(view),
    element("h1", {}, "All pairs are chosen"),
    element("p", {}, "Thank you. Every choice is stored. The result is printed in the terminal when you end."),
    element(
      "div", { class: "actions" },
      button("End", end, { kind: "primary" }),
      button("Back", () => act("back"), { kind: "quiet", "aria-keyshortcuts": "ArrowUp" }),
    ),
  ));
}

function progress({ chosen, pairs, rater }) {
  const label = `${chosen.toLocaleString()} of ${plural(pairs, "pair")} chosen${rater ? ` by ${rater}` : ""}`;
  return element("div", { class: "so-far" }, element("progress", { max: pairs, value: chosen, "aria-label": label }), element("p", { class: "soft" }, label));
}

/** Store a choice and go on, or go back to the pair before. Nothing happens while another is being stored, or without a pair. */
async function act(choice) {
  if (busy || shown === null) return;
  if (choice !== "back" && (shown.index === null || (choice !== "skip" && !whole))) return;
  const before = shown.index === null ? shown.pairs - 1 : shown.index - 1;
  if (choice === "back" && before < 0) return;
  busy = true;
  banner("");
  try {
    await show(choice === "back" ? await get(address(before)) : await put(address(shown.index), { choice }));
  } catch (problem) {
    busy = false;
    banner(problem.message);
  }
}

async function end() {
  await post("/v1/rating/end", {}).catch(() => null);
  main.replaceChildren(fill(
    element("div", { class: "view rating" }), element("h1", {}, "Ended"), element("p", {}, "This page can be closed."),
  ));
  shown = null;
}

async function begin() {
  try {
    await show(await get(address()));
  } catch (problem) {
    main.replaceChildren(element("div", { class: "view rating" }, element("h1", {}, "This cannot be shown"), problemBox(problem)));
  }
}

addEventListener("keydown", event => {
  const choice = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (choice === undefined || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.startsWith("Arrow") && event.target.closest(".photos")) return; // there they move the photos
  event.preventDefault();
  act(choice);
});
connection.addEventListener("offline", () => {
  if (shown) banner("The server has ended. Run the same command again: every choice is stored, and this page goes on by itself.");
});
connection.addEventListener("online", () => {
  banner("");
  begin();
});
begin();
