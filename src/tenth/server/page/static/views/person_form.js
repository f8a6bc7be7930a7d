// A new person: photos, a name, and the consent.

import { post } from "../parts/api.js";
import { button, element, field } from "../parts/elements.js";
import { route } from "../parts/format.js";
import { notice, problemBox } from "../parts/notices.js";
import { photoDrop } from "./photo_drop.js";

const BASES = [
  ["self", "This is me", "The photos show you."],
  ["permission", "I have permission", "The person agreed that pictures are made."],
  ["licensed", "Licensed data", "The photos come with a licence that allows it."],
];

export async function show(view) {
  const save = button("Save person", null, { kind: "primary", type: "submit" });
  const problems = element("div");
  const drop = photoDrop(count => { save.disabled = count === 0; });
  save.disabled = true;
  const form = element(
    "form",
    { class: "person-form" },
    step("1", "Photos", drop.part),
    step("2", "Name", field("Name", element("input", { name: "person", required: true, maxlength: 100, autocomplete: "off" }), "By it the person is found again.")),
    step("3", "Consent", consentFields()),
    problems,
    element("div", { class: "actions" }, save),
  );
  form.addEventListener("submit", event => {
    event.preventDefault();
    savePerson(form, drop.accepted(), save, problems);
  });
  view.append(
    element("p", { class: "back" }, element("a", { href: "#/people" }, "People")),
    element("h1", { tabindex: "-1" }, "Add a person"),
    element("p", { class: "lead" }, "The photos stay on this machine. They can be forgotten at any time, with everything that was made from them."),
    form,
  );
  return "Add a person";
}

function step(number, title, ...parts) {
  return element("section", { class: "step" }, element("h2", {}, element("span", { class: "number", "aria-hidden": "true" }, number), title), parts);
}

function consentFields() {
  const radios = BASES.map(([value, title, text]) => element(
    "label",
    { class: "option" },
    element("input", { type: "radio", name: "basis", value, required: true }),
    element("span", {}, element("strong", {}, title), element("span", { class: "soft" }, text)),
  ));
  return [
    element("fieldset", {}, element("legend", {}, "Why may pictures of this person be made?"), radios),
    element(
      "div",
      { class: "row" },
      field("Given by", element("input", { name: "given_by", required: true, maxlength: 200, autocomplete: "off" }), "who agreed, or the licence"),
      field("Until", element("input", { type: "date", name: "until" }), "blank: without an end"),
    ),
  ];
}

async function savePerson(form, photos, save, problems) {
  save.disabled = true;
  problems.replaceChildren();
  const name = form.person.value.trim();
  const consent = { basis: form.basis.value, given_by: form.given_by.value.trim(), until: form.until.value || null };
  try {
    await post("/v1/people", { name, photos, consent });
    notice(`${name} is saved.`);
    location.hash = route(["draw"], { person: name });
  } catch (problem) {
    problems.replaceChildren(problemBox(problem));
    save.disabled = false;
  }
}
