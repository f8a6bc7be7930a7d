// The form's content: kept while the tab is open, and filled from a picture that is to be drawn again.

import { get, Problem } from "../parts/api.js";
import { path } from "../parts/format.js";
import { details } from "../parts/pictures.js";

const KEY = "tenth-draft";
const SAMPLING = ["steps", "guidance_scale", "text_guidance_scale", "ip_adapter_scale", "scheduler", "negative_prompt"];

export function remember(form) {
  const values = Object.fromEntries([...form.elements].filter(it => it.name).map(it => [it.name, it.type === "checkbox" ? it.checked : it.value]));
  sessionStorage.setItem(KEY, JSON.stringify(values));
}

export function restore(form) {
  const values = JSON.parse(sessionStorage.getItem(KEY) ?? "{}");
  for (const [name, value] of Object.entries(values)) setValue(form, name, value);
}

/** Set a control, unless it has no such choice. */
function setValue(form, name, value) {
  const control = form.elements.namedItem(name);
  if (!control) return;
  if (control.type === "checkbox") control.checked = Boolean(value);
  else if (control.tagName !== "SELECT" || [...control.options].some(option => option.value === String(value ?? ""))) control.value = value ?? "";
}

/**
 * "Again as this one": the settings and seed of a picture, one picture. Those of its job where that is still known, else those
 * in the picture itself.
 */
export async function fillFromPicture(form, id) {
  const picture = await details(id);
  if (!Number.isSafeInteger(picture.seed)) {
    const needed = "a browser's numbers are exact up to 9,007,199,254,740,991";
    throw new Problem({ found: `the seed ${picture.seed} is larger than the page can send`, needed, action: "Draw it with the command line or the API" });
  }
  const job = picture.job ? await get(path("v1", "jobs", picture.job)).catch(() => null) : null;
  const settings = picture.settings ?? {};
  const sampling = job?.request?.sampling ?? settings;
  const given = {
    person: picture.person,
    prompts: picture.prompt,
    method: job?.request?.method ?? picture.method,
    model: job?.request?.model ?? "pocket",
    size: job?.request?.size ?? "",
    seed: picture.seed,
    num_images: 1,
    candidates: "",
    new_seed: false,
    comparing: false,
    ...Object.fromEntries(SAMPLING.map(name => [name, sampling[name] ?? ""])),
  };
  for (const [name, value] of Object.entries(given)) setValue(form, name, value);
  const unusual = name => given[name] !== "" && String(given[name]) !== form.elements.namedItem(name).placeholder;
  form.querySelector("details").open = ["size", ...SAMPLING.slice(0, -1)].some(unusual);
  form.prompts.focus();
}
