// Which pictures are chosen, and the bar with what can be done with them.

import { button, element, linkButton } from "./elements.js";
import { plural, route } from "./format.js";

const MOST_COMPARED = 48;
const chosen = new Set();
export const selection = new EventTarget();

export const isChosen = id => chosen.has(id);
export const chosenIds = () => [...chosen];

export function choose(id, wanted) {
  if (wanted === chosen.has(id)) return;
  if (wanted) chosen.add(id);
  else chosen.delete(id);
  selection.dispatchEvent(new Event("change"));
}

export function clearChosen() {
  chosen.clear();
  for (const box of document.querySelectorAll(".tile .choose input")) box.checked = false;
  selection.dispatchEvent(new Event("change"));
}

/** The bar: shown while something is chosen. actions: {saveZip, deletePictures, failed}; it is told of failures. */
export function selectionBar({ saveZip, deletePictures, failed }, signal) {
  const count = element("p", { class: "count" });
  const compare = linkButton("Compare", "#", { kind: "primary" });
  const trying = task => () => task(chosenIds()).catch(failed);
  const bar = element(
    "section",
    { class: "selection", "aria-label": "Chosen pictures" },
    count,
    element(
      "div",
      { class: "actions" },
      compare,
      button("ZIP", trying(saveZip), { sign: "download", "aria-label": "Download the chosen as a ZIP" }),
      button("Delete", trying(deletePictures), { sign: "trash" }),
      button("Clear", clearChosen, { kind: "quiet" }),
    ),
  );
  const show = () => {
    bar.hidden = chosen.size === 0;
    count.textContent = `${plural(chosen.size, "picture")} chosen`;
    compare.hidden = chosen.size > MOST_COMPARED;
    compare.href = route(["compare", chosenIds().join(",")]);
  };
  selection.addEventListener("change", show, { signal });
  show();
  return bar;
}
