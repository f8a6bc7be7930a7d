// The form: whom to draw, what the pictures show, by which method and settings.

import { get, send } from "../parts/api.js";
import { button, element, emptyState, field, linkButton, select } from "../parts/elements.js";
import { plural, shorten } from "../parts/format.js";
import { learn } from "../parts/jobs.js";
import { notice, showingProblems } from "../parts/notices.js";
import { valueText } from "../parts/settings.js";
import { fillFromPicture, remember, restore } from "./draft.js";

const OWN = ""; // the model's or the server's own choice
const LARGEST_RANDOM_SEED = 2 ** 31;
const MAX_IMAGES = 100;
const SETTINGS = { // of the sampling: label, help
  steps: ["Steps", "of denoising; more take longer"],
  guidance_scale: ["Guidance", "how strictly to follow prompt and person"],
  text_guidance_scale: ["Text guidance", "how strictly to follow the prompt, whoever is shown"],
  ip_adapter_scale: ["Adapter scale", "how much of the person: 0 none, 1 as trained"],
};
const LONGEST_VALUE = 40; // in the sentence on what has no control
const USUAL = { guidance_interval: "0,1", precision: "auto" }; // of which nothing needs to be said

const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % LARGEST_RANDOM_SEED;

/** The form, filled from a picture or a person that the address names, else as it was left. */
export async function drawForm(query, signal) {
  const [people, methods, models, choices] = await Promise.all(
    ["/v1/people", "/v1/methods", "/v1/models", "/static/choices.json"].map(address => get(address, { signal })),
  );
  const names = people.data.map(person => person.name);
  if (!names.length) {
    const start = linkButton("Add a person", "#/people/new", { kind: "primary", sign: "plus" });
    return emptyState("Whom shall it show?", "Start with a handful of photos of one person. They stay on this machine.", start);
  }
  const form = element("form", { class: "draw-form", novalidate: true });
  const problems = element("div");
  const submit = button("Draw", null, { kind: "primary", type: "submit" });
  form.append(
    ...mainFields(names, methods.data),
    advancedFields(choices, models.data.filter(model => !model.id.startsWith("tenth:"))),
    unshownPart(),
    problems,
    element("div", { class: "actions" }, submit),
  );
  form.seed.value = randomSeed();
  restore(form);
  if (query.person && names.includes(query.person)) form.person.value = query.person;
  if (query.from) await showingProblems(problems, () => fillFromPicture(form, query.from));
  showSecondMethod(form);
  form.unshown.dispatchEvent(new Event("input"));
  form.addEventListener("input", () => remember(form));
  form.addEventListener("submit", event => {
    event.preventDefault();
    if (form.reportValidity()) draw(form, submit, problems);
  });
  return form;
}

function mainFields(names, methods) {
  const [standard, ...others] = methods; // the default comes first
  const options = [[OWN, `${standard.id} (default)`], ...others.map(method => [method.id, method.id])];
  const second = field("Second method", select("second_method", options, others[0]?.id), null, { class: "field second" });
  const describe = () => (methods.find(method => method.id === first.value) ?? standard).description;
  const first = select("method", options);
  const help = element("span", {}, describe());
  first.addEventListener("input", () => { help.textContent = describe(); });
  const comparing = element("input", { type: "checkbox", name: "comparing" });
  comparing.addEventListener("input", () => { second.hidden = !comparing.checked; });
  return [
    field("Person", select("person", names.map(name => [name, name]), "", { required: true }), element("a", { href: "#/people/new" }, "Add a person")),
    field("Prompt", element("textarea", { name: "prompts", rows: 3, required: true, placeholder: "a portrait photo of a person" }), "One prompt a line."),
    field("Not in the picture", element("input", { name: "negative_prompt", autocomplete: "off" }), "What it should not show; read where there is guidance."),
    element(
      "div",
      { class: "row" },
      field("Pictures", number("num_images", { min: 1, max: MAX_IMAGES, value: 4 }), "of each prompt"),
      field("Seed", number("seed", { min: 0, required: true }), "of the first"),
    ),
    check("new_seed", "A new seed each time", true),
    field("Method", first, help),
    element("label", { class: "check" }, comparing, "Draw by a second method too"),
    second,
  ];
}

function showSecondMethod(form) {
  form.querySelector(".second").hidden = !form.comparing.checked;
  form.method.dispatchEvent(new Event("input"));
}

function advancedFields(choices, models) {
  const { ranges, defaults, schedulers } = choices;
  const sampling = Object.entries(SETTINGS).map(([name, [label, help]]) => {
    const { min = 0, max = null, integer = false } = ranges[name] ?? {};
    const placeholder = defaults[name] ?? "";
    return field(label, number(name, { min, max, step: integer ? 1 : "any", placeholder }), help);
  });
  return element(
    "details",
    { class: "advanced" },
    element("summary", {}, "Advanced settings"),
    field("Model", select("model", models.map(model => [model.id, model.id]), "pocket")),
    element(
      "div",
      { class: "row" },
      field("Size", element("input", { name: "size", pattern: "\\s*\\d+(\\s*[x×]\\s*\\d+)?\\s*", placeholder: "as trained", autocomplete: "off" }), `256 or 256x320, in multiples of ${choices.size_multiple}`),
      field("Candidates", number("candidates", { min: 1, max: MAX_IMAGES }), "draw so many, keep the best"),
    ),
    element("div", { class: "row" }, sampling.slice(0, 2)),
    element("div", { class: "row" }, sampling.slice(2)),
    field("Scheduler", select("scheduler", [[OWN, "the model's own"], ...schedulers.map(name => [name, name])])),
  );
}

/** What a picture was made by that has no control here: it is sent as it was, unless it is left out. */
function unshownPart() {
  const text = element("p", { class: "help" });
  const values = element("input", { type: "hidden", name: "unshown" });
  const leaveOut = button("Leave these out", () => {
    values.value = "";
    values.dispatchEvent(new Event("input", { bubbles: true }));
  }, { kind: "quiet" });
  const part = element("div", {}, values, text, leaveOut);
  values.addEventListener("input", () => {
    const { sampling, ...others } = JSON.parse(values.value || "{}");
    const told = Object.entries({ ...others, ...sampling }).filter(([name, value]) => String(value) !== USUAL[name]);
    part.hidden = !told.length;
    const words = told.map(([name, value]) => `${name.replaceAll("_", " ")} ${shorten(valueText(value), LONGEST_VALUE)}`);
    text.textContent = `Also as in the picture: ${words.join(" · ")}.`;
  });
  return part;
}

function number(name, { step = 1, ...attributes }) {
  return element("input", { type: "number", name, step, inputmode: step === 1 ? "numeric" : "decimal", autocomplete: "off", ...attributes });
}

function check(name, text, checked) {
  const box = element("input", { type: "checkbox", name });
  box.checked = checked;
  return element("label", { class: "check" }, box, text);
}

/** The request of the form as the API takes it. */
export function requestOf(form, method) {
  const given = name => (form[name].value.trim() === "" ? null : Number(form[name].value));
  const sampling = Object.fromEntries(Object.keys(SETTINGS).map(name => [name, given(name)]).filter(([, value]) => value !== null));
  if (form.scheduler.value) sampling.scheduler = form.scheduler.value;
  if (form.negative_prompt.value.trim()) sampling.negative_prompt = form.negative_prompt.value.trim();
  const unshown = JSON.parse(form.unshown.value || "{}");
  return {
    ...unshown,
    prompts: form.prompts.value.split("\n").map(line => line.trim()).filter(Boolean),
    num_images: given("num_images") ?? 1,
    seed: given("seed"),
    method,
    model: form.model.value,
    size: form.size.value.replaceAll(/\s/g, "").replace("×", "x"),
    candidates: given("candidates"),
    sampling: { ...unshown.sampling, ...sampling },
  };
}

async function draw(form, submit, problems) {
  submit.disabled = true;
  const methods = [form.method.value, ...(form.comparing.checked ? [form.second_method.value] : [])];
  const sent = [];
  const well = await showingProblems(problems, async () => {
    for (const method of new Set(methods)) {
      const json = { person: form.person.value, photos: [], request: requestOf(form, method) };
      const answer = await send("POST", "/v1/jobs", { json });
      sent.push({ job: await answer.json(), fresh: answer.status !== 200 });
      learn(sent.at(-1).job);
    }
  });
  submit.disabled = false;
  if (!well) return;
  const fresh = sent.filter(each => each.fresh).length;
  if (fresh) notice(`${plural(fresh, "drawing")} in the queue.`);
  else notice("It was drawn already: the same settings and seed give the same pictures.");
  document.querySelector(`[data-id="${CSS.escape(sent[0].job.id)}"]`)?.scrollIntoView({ block: "nearest" });
  if (form.new_seed.checked) form.seed.value = randomSeed();
  remember(form);
}
