// The gallery: pages by key, fetched as they come near the window and emptied as they leave it, so that a hundred thousand
// pictures are no more elements than a few screens hold. What was fetched is kept: a page that comes back is as it was.

import { get, query } from "../parts/api.js";
import { element, emptyState, linkButton, select } from "../parts/elements.js";
import { route } from "../parts/format.js";
import { notice, problemBox } from "../parts/notices.js";
import { deletePictures, pictures, pictureTile, saveZip } from "../parts/pictures.js";
import { selectionBar } from "../parts/selection.js";

const PAGE = 48;
const NEAR = "1200px"; // from the window, within which a page is filled

export async function show(view, { query: asked, signal }) {
  const people = await get("/v1/people", { signal });
  const names = people.data.map(person => person.name);
  if (asked.person && !names.includes(asked.person)) names.push(asked.person);
  const filter = select("person", [["", "Everybody"], ...names.map(name => [name, name])], asked.person ?? "", { "aria-label": "Person" });
  filter.addEventListener("change", () => { location.hash = route(["gallery"], { person: filter.value }); });
  const pages = element("div", { class: "pages" });
  view.append(
    element("div", { class: "heading" }, element("h1", { tabindex: "-1" }, "Gallery"), filter),
    pages,
    selectionBar({ saveZip, deletePictures, failed: problem => notice(problem.message) }, signal),
  );
  await new Pages(pages, asked.person ?? "", signal).begin();
  return asked.person ? `Gallery of ${asked.person}` : "Gallery";
}

/** One page after another below a place. Of a page that is far away only its height is left. */
class Pages {
  constructor(place, person, signal) {
    Object.assign(this, { place, person, signal, list: new Map(), last: null, adding: false });
    this.near = new IntersectionObserver(entries => entries.forEach(entry => this.moved(entry)), { rootMargin: NEAR });
    this.end = element("div", { class: "end", "aria-hidden": "true" });
    this.next = undefined; // the cursor of the page that was not read yet; null after the last
    signal.addEventListener("abort", () => this.near.disconnect());
    pictures.addEventListener("removed", event => this.removed(event.detail.id), { signal });
    addEventListener("resize", () => this.resize(), { signal });
  }

  async begin() {
    this.place.after(this.end);
    await this.add();
    if (!this.place.children.length) {
      const draw = linkButton("Draw", "#/draw", { kind: "primary" });
      this.place.append(emptyState("No pictures yet", "What is drawn is found here, the newest first.", draw));
    }
    this.near.observe(this.end);
  }

  /** Read the page after the last one. */
  async add() {
    if (this.adding || this.next === null) return;
    this.adding = true;
    try {
      const asked = { person: this.person, before: this.next, limit: PAGE };
      const page = await get(query("/v1/pictures", asked), { signal: this.signal });
      this.next = page.next ?? null;
      if (!page.data.length) return;
      const made = element("ul", { class: "tiles", role: "list" });
      this.list.set(made, { pictures: page.data, filled: true });
      made.append(...page.data.map(pictureTile));
      this.place.append(made);
      this.near.observe(made);
    } catch (problem) {
      if (!this.signal.aborted) this.failed(problem);
    } finally {
      this.adding = false;
    }
    this.near.unobserve(this.end); // observed anew, it tells whether it is still near
    this.near.observe(this.end);
  }

  failed(problem) {
    this.place.append(problemBox(problem));
    this.next = null;
  }

  moved({ target, isIntersecting }) {
    if (target === this.end) {
      if (isIntersecting) this.add();
      return;
    }
    const page = this.list.get(target);
    if (!page || page.filled === isIntersecting) return;
    page.filled = isIntersecting;
    if (isIntersecting) this.fill(target, page);
    else this.empty(target);
  }

  fill(target, page) {
    target.replaceChildren(...page.pictures.map(pictureTile));
    target.style.height = "";
  }

  empty(target) {
    target.style.height = `${target.getBoundingClientRect().height}px`;
    target.replaceChildren();
  }

  /** Heights of what is empty, by the rows of a page that is not. */
  resize() {
    const shown = [...this.list].find(([made, page]) => page.filled && made.children.length);
    if (!shown) return;
    const columns = getComputedStyle(shown[0]).gridTemplateColumns.split(" ").length;
    const rowHeight = shown[0].getBoundingClientRect().height / Math.ceil(shown[1].pictures.length / columns);
    for (const [made, page] of this.list) if (!page.filled) made.style.height = `${Math.ceil(page.pictures.length / columns) * rowHeight}px`;
  }

  removed(id) {
    for (const page of this.list.values()) page.pictures = page.pictures.filter(picture => picture.id !== id);
    [...this.place.querySelectorAll(".tile")].find(one => one.dataset.id === id)?.remove();
  }
}
