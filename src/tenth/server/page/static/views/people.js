// The people who are saved, each with the consent, and how to forget them.

import { get, query, remove, thumbnailAddress } from "../parts/api.js";
import { button, element, emptyState, fill, linkButton } from "../parts/elements.js";
import { day, path, plural, route } from "../parts/format.js";
import { confirmed, notice, problemBox } from "../parts/notices.js";
import { describe } from "../parts/pictures.js";

const PICTURES_SHOWN = 4;
const BASIS = { self: "This is me", permission: "With permission", licensed: "Licensed data" };
const REMOVED = { cached: "entries of the cache" }; // what the API counts, where the key does not say it

export async function show(view, { signal }) {
  const people = await get("/v1/people", { signal });
  const add = linkButton("Add a person", "#/people/new", { kind: "primary", sign: "plus" });
  view.append(element("div", { class: "heading" }, element("h1", { tabindex: "-1" }, "People"), people.data.length ? add : null));
  if (people.data.length) view.append(element("ul", { class: "people", role: "list" }, people.data.map(personCard)));
  else view.append(emptyState("Nobody is saved", "A person is a handful of photos, a name, and the consent to make pictures of them.", add));
  return "People";
}

function personCard(person) {
  const problems = element("div");
  const latest = element("ul", { class: "latest", role: "list" });
  const card = element("li", { class: "person" });
  const forget = button("Forget", () => forgetPerson(person, card, problems), { sign: "trash", "aria-label": `Forget ${person.name}` });
  const draw = linkButton("Draw", route(["draw"], { person: person.name }), { kind: "primary", "aria-label": `Draw ${person.name}` });
  fill(
    card,
    element("div", { class: "person-head" }, element("span", { class: "initial", "aria-hidden": "true" }, [...person.name][0]?.toUpperCase() ?? ""), element("h2", {}, person.name)),
    element("p", {}, [plural(person.num_photos ?? 0, "photo"), person.created && `since ${day(person.created)}`].filter(Boolean).join(" · ")),
    consentLine(person.consent),
    person.problem ? problemBox({ found: person.problem }) : null,
    latest,
    problems,
    element("div", { class: "actions" }, person.consent?.is_current === false ? null : draw, linkButton("Pictures", route(["gallery"], { person: person.name }), { "aria-label": `Pictures of ${person.name}` }), forget),
  );
  get(query("/v1/pictures", { person: person.name, limit: PICTURES_SHOWN })).then(page => {
    latest.append(...page.data.map(picture => element("li", {}, element("a", { href: route(["picture", picture.id]) },
      element("img", { src: thumbnailAddress(picture.id), alt: describe(picture), loading: "lazy", width: 64, height: 64 })))));
  }, () => latest.remove());
  return card;
}

function consentLine(consent) {
  if (!consent) return element("p", { class: "warning" }, "No consent is recorded.");
  const words = [`${BASIS[consent.basis] ?? consent.basis}, by ${consent.given_by}`, consent.date && day(consent.date)].filter(Boolean).join(", ");
  if (consent.is_current === false) return element("p", { class: "warning" }, `${words}. It ended on ${day(consent.until)}: no pictures are made. Forget the person, then add them again with a new consent.`);
  return element("p", { class: "soft" }, consent.until ? `${words}, until ${day(consent.until)}` : words);
}

async function forgetPerson(person, card, problems) {
  const text = "Photos, what was learnt from them, pictures, and jobs of this person are removed for good. Nothing of it can be brought back.";
  if (!(await confirmed({ title: `Forget ${person.name}?`, text, action: `Forget ${person.name}` }))) return;
  try {
    const told = await remove(path("v1", "people", person.name));
    const counts = Object.entries(told?.removed ?? {}).filter(([, count]) => count);
    notice(`${person.name} is forgotten${counts.length ? `: ${counts.map(([name, count]) => `${count} ${REMOVED[name] ?? name}`).join(", ")}` : ""}.`);
    card.remove();
    document.querySelector("h1")?.focus();
    if (!document.querySelector(".person")) dispatchEvent(new HashChangeEvent("hashchange"));
  } catch (problem) {
    problems.replaceChildren(problemBox(problem));
  }
}
