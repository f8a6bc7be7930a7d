// Chosen pictures side by side: where methods drew the same prompt and seed, a column each and a row for each of these.

import { element, emptyState, linkButton } from "../parts/elements.js";
import { identityText, plural, route, shorten } from "../parts/format.js";
import { details, imageOf, keepButton, pictures } from "../parts/pictures.js";

export async function show(view, { argument, signal }) {
  const ids = [...new Set(argument.split(",").filter(Boolean))];
  const all = (await Promise.all(ids.map(id => details(id).catch(problem => (problem.status === 404 ? null : Promise.reject(problem)))))).filter(Boolean);
  view.append(element("h1", { tabindex: "-1" }, "Compare"));
  if (!all.length) {
    view.append(emptyState("No pictures to compare", "Choose some in the gallery.", linkButton("Gallery", "#/gallery", { kind: "primary" })));
    return "Compare";
  }
  const missing = ids.length - all.length;
  view.append(
    element("p", { class: "soft" }, `${plural(all.length, "picture")}, each with its identity: the likeness to the photos, from 0 to 1.${missing ? ` ${missing} deleted.` : ""}`),
  );
  const methods = [...new Set(all.map(picture => picture.method))];
  const rows = Map.groupBy(all, picture => JSON.stringify([picture.prompt, picture.seed]));
  const crossed = [...rows.values()].some(row => new Set(row.map(picture => picture.method)).size > 1);
  view.append(crossed ? table([...rows.values()], methods) : element("ul", { class: "cells", role: "list" }, all.map(picture => element("li", {}, cell(picture, `${picture.method}, seed ${picture.seed}`)))));
  pictures.addEventListener("removed", event => {
    for (const one of view.querySelectorAll(".cell")) if (one.dataset.id === event.detail.id) one.replaceChildren(element("p", { class: "soft" }, "deleted"));
  }, { signal });
  return `Compare ${plural(all.length, "picture")}`;
}

function table(rows, methods) {
  const head = element("tr", {}, element("th", { scope: "col" }, "Prompt and seed"), methods.map(name => element("th", { scope: "col" }, name)));
  const body = rows.map(row => {
    const [first] = row;
    const label = element("th", { scope: "row" }, shorten(first.prompt), element("span", { class: "soft" }, `seed ${first.seed}`));
    return element("tr", {}, label, methods.map(name => element("td", {}, row.filter(picture => picture.method === name).map(picture => cell(picture, null)))));
  });
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Pictures by method" },
    element("table", { class: "comparison" }, element("thead", {}, head), element("tbody", {}, body)));
}

/** A picture with its identity. text: what else there is to say of it. */
function cell(picture, text) {
  const identity = identityText(picture);
  return element(
    "figure",
    { class: "cell", dataset: { id: picture.id } },
    element("a", { href: route(["picture", picture.id]) }, imageOf(picture, { loading: "lazy" })),
    element(
      "figcaption",
      {},
      element("span", { class: "identity" }, identity ? `Identity ${identity}` : "Identity not measured"),
      text && element("span", { class: "soft" }, text),
      keepButton(picture),
    ),
  );
}
