// A picture's settings as they are read.

import { element } from "./elements.js";
import { figure } from "./format.js";

// Key of the settings in a PNG -> what it is called. Others stand below them by their own names.
const LABELS = {
  negative_prompt: "Not in the picture",
  seed: "Seed",
  method: "Method",
  model: "Model",
  size: "Size",
  steps: "Steps",
  scheduler: "Scheduler",
  guidance_scale: "Guidance",
  guidance_rescale: "Guidance rescale",
  guidance_interval: "Guidance interval",
  text_guidance_scale: "Text guidance",
  ip_adapter_scale: "Adapter scale",
  precision: "Precision",
};
const ELSEWHERE = new Set(["prompt"]);
const FIGURES = {
  identity: "Identity",
  face_score: "Face score",
  face_cut: "Face cut off",
  sharpness: "Sharpness",
  nearest_photo_bits: "Bits from the nearest photo",
};

/** Pairs of a name and a value as a list of terms; a value is text. */
export function terms(pairs) {
  return element("dl", {}, pairs.map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

export function settingsList(picture) {
  const settings = { size: `${picture.width} × ${picture.height} pixels`, ...picture.settings, seed: picture.seed };
  const known = Object.keys(LABELS).filter(key => settings[key] !== undefined && settings[key] !== "");
  return terms(known.map(key => [LABELS[key], valueText(settings[key])]));
}

/** The settings that have no label, and all of their values. */
export function otherSettings(picture) {
  const others = Object.entries(picture.settings ?? {}).filter(([key]) => !(key in LABELS) && !ELSEWHERE.has(key));
  return others.length ? terms(others.map(([key, value]) => [key, valueText(value)])) : null;
}

export function figuresList(picture) {
  const figures = { identity: picture.identity, ...picture.figures };
  const measured = Object.entries(figures).filter(([, value]) => value !== null && value !== undefined && typeof value !== "object");
  return measured.length ? terms(measured.map(([key, value]) => [FIGURES[key] ?? key, figure(value)])) : null;
}

export function valueText(value) {
  if (Array.isArray(value) && value.every(each => typeof each !== "object")) return value.join(", ");
  return value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
}
