// Pictures: what is known of them, and what can be done with some of them.

import { get, imageAddress, patch, send, thumbnailAddress } from "./api.js";
import { element, fill, icon } from "./elements.js";
import { identityText, path, plural, route, shorten } from "./format.js";
import { confirmed, notice } from "./notices.js";
import { isChosen, choose } from "./selection.js";

/** Listeners: "removed" and "kept", whose detail is {id, kept}. */
export const pictures = new EventTarget();

function tell(name, detail) {
  pictures.dispatchEvent(new CustomEvent(name, { detail }));
}

export const details = id => get(path("v1", "pictures", id));

export async function setKept(picture, kept) {
  await patch(path("v1", "pictures", picture.id), { kept });
  tell("kept", { id: picture.id, kept });
}

/** A picture that is there no more is not chosen either. */
function forget(id) {
  choose(id, false);
  tell("removed", { id });
}

/** What a request for a picture gives; null if it is gone. */
async function unlessGone(request) {
  try {
    return await request;
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    return null;
  }
}

/** Delete pictures after a question. Returns whether they are gone. */
export async function deletePictures(ids) {
  const title = ids.length === 1 ? "Delete this picture?" : `Delete ${plural(ids.length, "picture")}?`;
  const text = "Its file is removed from the server. The same settings and seed draw it again.";
  if (!(await confirmed({ title, text: ids.length === 1 ? text : text.replace("Its file is", "Their files are").replace("it again", "them again"), action: "Delete" }))) return false;
  let deleted = 0;
  for (const id of ids) {
    if (await unlessGone(send("DELETE", path("v1", "pictures", id)))) deleted += 1;
    forget(id);
  }
  const gone = ids.length - deleted;
  notice(`${plural(deleted, "picture")} deleted${gone ? `, ${gone.toLocaleString()} ${gone === 1 ? "was" : "were"} gone already` : ""}.`);
  return true;
}

/** Save pictures as one ZIP, without those that are gone. */
export async function saveZip(ids) {
  const zip = some => send("POST", "/v1/pictures/zip", { json: { ids: some } });
  let answer = await unlessGone(zip(ids));
  if (!answer) {
    const there = await withoutGone(ids);
    if (!there.length) return;
    answer = await zip(there);
  }
  const address = URL.createObjectURL(await answer.blob());
  element("a", { href: address, download: "pictures.zip" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Those of the pictures that are still there; the others are forgotten. */
async function withoutGone(ids) {
  const there = [];
  for (const id of ids) {
    if (await unlessGone(details(id))) there.push(id);
    else forget(id);
  }
  const gone = ids.length - there.length;
  if (gone) notice(`${plural(gone, "picture")} ${gone === 1 ? "is" : "are"} gone and not in the ZIP.`);
  return there;
}

export const fileName = picture => `${[picture.person, picture.method, picture.seed].filter(part => part !== null && part !== undefined && part !== "").join("-")}.png`;
export const imageOf = (picture, attributes = {}) =>
  element("img", { src: imageAddress(picture.id), alt: describe(picture), width: picture.width, height: picture.height, ...attributes });

/** A picture in words, for who does not see it. */
export function describe(picture) {
  const person = picture.person ? `${picture.person}, ` : "";
  return `${person}${shorten(picture.prompt || "picture", 120)}, seed ${picture.seed}`;
}

/** A picture in a grid: opens large; can be chosen and kept. */
export function pictureTile(picture) {
  const tile = element("li", { class: "tile", dataset: { id: picture.id } });
  const image = element("img", { src: thumbnailAddress(picture.id), alt: describe(picture), loading: "lazy", decoding: "async", width: 256, height: 256 });
  image.addEventListener("error", () => tile.classList.add("gone"));
  const box = element("input", { type: "checkbox", "aria-label": `Choose ${describe(picture)}` });
  box.checked = isChosen(picture.id);
  box.addEventListener("change", () => choose(picture.id, box.checked));
  const identity = identityText(picture);
  fill(
    tile,
    element("a", { href: route(["picture", picture.id]) }, image),
    element("label", { class: "choose" }, box),
    keepButton(picture),
    element("p", { class: "tile-text" }, element("span", {}, `seed ${picture.seed}`), identity && element("span", { title: "identity: likeness to the photos" }, identity)),
  );
  return tile;
}

/** A switch whether a picture is kept. label: whether the word stands beside the sign. */
export function keepButton(picture, { label = false } = {}) {
  const made = element("button", { type: "button", class: label ? "button plain keep" : "keep" }, icon("keep"));
  const word = element("span", { class: label ? "" : "hidden" });
  made.append(word);
  const show = () => {
    made.setAttribute("aria-pressed", String(Boolean(picture.kept)));
    word.textContent = label ? (picture.kept ? "Kept" : "Keep") : "Keep";
    made.title = picture.kept ? "Kept: retention does not delete it" : "Keep: retention does not delete it";
  };
  made.addEventListener("click", async () => {
    try {
      await setKept(picture, !picture.kept);
      picture.kept = !picture.kept;
      show();
    } catch (problem) {
      notice(problem.message);
    }
  });
  show();
  return made;
}
