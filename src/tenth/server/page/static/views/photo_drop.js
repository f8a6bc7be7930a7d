// Photos to choose or drop, each with the verdict of the intake: used or not, why, and the face that was found.

import { send } from "../parts/api.js";
import { button, element, icon } from "../parts/elements.js";
import { path, plural } from "../parts/format.js";
import { problemBox } from "../parts/notices.js";

/** The place to put photos. `accepted()` gives the sha256 of those that will be used; `changed` is called with how many. */
export function photoDrop(changed) {
  const input = element("input", { type: "file", accept: "image/*,.heic,.heif", multiple: true, id: "photos", class: "hidden-input" });
  const zone = element(
    "div",
    { class: "drop" },
    icon("upload"),
    element("label", { for: "photos", class: "button plain" }, input, "Choose photos"),
    element("p", { class: "help" }, "or drop them here. Nine are ideal, one is enough: one face, sharp, from the front and the sides."),
  );
  const summary = element("p", { class: "summary", role: "status" });
  const problems = element("div");
  const list = element("ul", { class: "photos", role: "list" });
  const files = [];
  let verdicts = [];
  let round = 0; // of the questions to the server: only the last one's answer counts

  function add(added) {
    files.push(...added);
    inspect();
  }

  /** All photos are judged together: which are the same, and whose face is in most of them. */
  async function inspect() {
    const mine = round += 1;
    verdicts = [];
    problems.replaceChildren();
    list.replaceChildren(...files.map(waitingTile));
    summary.textContent = files.length ? `Looking at ${plural(files.length, "photo")}…` : "";
    changed(0);
    if (!files.length) return;
    const body = new FormData();
    for (const file of files) body.append("photo", file, file.name);
    try {
      const told = await (await send("POST", "/v1/photos", { body })).json();
      if (mine !== round) return;
      verdicts = told.data ?? told;
      list.replaceChildren(...verdicts.map((verdict, index) => photoTile(verdict, () => take(index))));
      const used = accepted().length;
      summary.textContent = `${used} of ${plural(files.length, "photo")} will be used.`;
      changed(used);
    } catch (problem) {
      if (mine !== round) return;
      summary.textContent = "";
      problems.replaceChildren(problemBox(problem, button("Look again", inspect, { sign: "again" })));
    }
  }

  function take(index) {
    files.splice(index, 1);
    inspect();
  }

  const accepted = () => [...new Set(verdicts.filter(verdict => verdict.accepted).map(verdict => verdict.sha256))];
  input.addEventListener("change", () => {
    add(input.files);
    input.value = "";
  });
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    zone.addEventListener(name, event => {
      event.preventDefault();
      zone.classList.toggle("over", name === "dragenter" || name === "dragover");
      if (name === "drop") add([...event.dataTransfer.files]);
    });
  }
  return { part: element("div", {}, zone, summary, problems, list), accepted };
}

function waitingTile(file) {
  return element("li", { class: "photo waiting" }, element("div", { class: "frame" }), element("p", { class: "file" }, file.name));
}

function photoTile(verdict, take) {
  const word = verdict.accepted ? "Used" : "Not used";
  const reasons = [verdict.reason, ...(verdict.warnings ?? [])].filter(Boolean);
  return element(
    "li",
    { class: `photo ${verdict.accepted ? "used" : "refused"}` },
    photoFrame(verdict),
    element("p", { class: "verdict" }, icon(verdict.accepted ? "check" : "close"), word),
    element("p", { class: "file", title: verdict.file }, verdict.file),
    reasons.map(reason => element("p", { class: "reason" }, reason)),
    element("button", { type: "button", class: "take", "aria-label": `Remove ${verdict.file}`, onclick: take }, icon("close")),
  );
}

/** The thumbnail with a box around the face. */
function photoFrame(verdict) {
  const frame = element("div", { class: "frame" });
  if (!verdict.sha256 || !verdict.width) return frame;
  const image = element("img", { src: `${path("v1", "photos", verdict.sha256)}/thumbnail`, alt: verdict.face ? `${verdict.file}, with the face that was found` : verdict.file });
  const sheet = element("div", { class: "sheet", style: { aspectRatio: `${verdict.width} / ${verdict.height}` } }, image);
  sheet.classList.add(verdict.width >= verdict.height ? "wide" : "tall");
  image.addEventListener("error", () => sheet.remove());
  if (verdict.face) {
    const [left, top, right, bottom] = verdict.face.map(fraction => 100 * fraction);
    sheet.append(element("span", { class: "face", style: { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` } }));
  }
  frame.append(sheet);
  return frame;
}
