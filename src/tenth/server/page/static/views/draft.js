// The form's content: kept while the tab is open, and filled from a picture that is to be drawn again.

import { get, Problem } from "../parts/api.js";
import { element } from "../parts/elements.js";
import { path } from "../parts/format.js";
import { details } from "../parts/pictures.js";

const KEY = "tenth-draft";
const SAMPLING = ["steps", "guidance_scale", "text_guidance_scale", "ip_adapter_scale", "scheduler", "negative_prompt"];
// Without a control. The style is not among them: its words are in a picture's own prompts.
const START = ["strength", "face_detailer", "image", "mask"];
const FURTHER_SAMPLING = ["guidance_rescale", "guidance_interval", "precision"];

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
  else if (control.tagName !== "SELECT" || hasOption(control, String(value ?? ""))) control.value = value ?? "";
}

const hasOption = (control, value) => [...control.options].some(option => option.value === value);

/** Choose a picture's own, even where the server has it no more: it says so when it is to draw. Of null nothing is chosen. */
function chooseOwn(control, value) {
  if (value && !hasOption(control, value)) control.append(element("option", { value }, value));
  control.value = value ?? "";
}

/** Those of the values that are set and that no control shows. */
function unshownOf(form, values, names) {
  const isShown = name => form.elements.namedItem(name)?.value === String(values[name]);
  const isSet = name => values[name] !== undefined && values[name] !== null && values[name] !== "";
  return Object.fromEntries(names.filter(name => isSet(name) && !isShown(name)).map(name => [name, values[name]]));
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
  const request = picture.job ? await requestOfJob(picture.job) : null;
  const settings = picture.settings ?? {};
  const sampling = { ...(request?.sampling ?? settings) };
  sampling.negative_prompt = settings.negative_prompt ?? sampling.negative_prompt;
  const given = {
    prompts: picture.prompt,
    size: request?.size ?? settings.size ?? "",
    seed: picture.seed,
    num_images: 1,
    candidates: "",
    new_seed: false,
    comparing: false,
    ...Object.fromEntries(SAMPLING.map(name => [name, sampling[name] ?? ""])),
  };
  for (const [name, value] of Object.entries(given)) setValue(form, name, value);
  const chosen = { person: picture.person, method: request?.method ?? picture.method, model: request?.model ?? "pocket" };
  for (const [name, value] of Object.entries(chosen)) chooseOwn(form[name], value);
  const unshown = { ...unshownOf(form, request ?? {}, START), sampling: unshownOf(form, sampling, [...SAMPLING, ...FURTHER_SAMPLING]) };
  form.unshown.value = JSON.stringify(unshown);
  const unusual = name => given[name] !== "" && String(given[name]) !== form.elements.namedItem(name).placeholder;
  form.querySelector("details").open = ["size", ...SAMPLING.slice(0, -1)].some(unusual);
  form.prompts.focus();
  if (picture.person) return;
  throw new Problem({
    found: "the picture is of uploaded photos, not of a saved person", needed: "the person to draw is needed", action: "Choose one, or save the person of those photos first",
  });
}

async function requestOfJob(id) {
  try {
    return (await get(path("v1", "jobs", id))).request;
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    return null;
  }
}
