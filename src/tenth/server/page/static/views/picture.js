// One picture, large, with its settings.

import { imageAddress } from "../parts/api.js";
import { button, element, fill, linkButton } from "../parts/elements.js";
import { route, time } from "../parts/format.js";
import { showingProblems } from "../parts/notices.js";
import { deletePictures, details, fileName, imageOf, keepButton } from "../parts/pictures.js";
import { figuresList, otherSettings, settingsList } from "../parts/settings.js";

const LARGEST_ZOOM = 4; // of the pixels: beyond it there is nothing more to see

export async function show(view, { argument: id }) {
  const picture = await details(id);
  const problems = element("div");
  const others = otherSettings(picture);
  const figures = figuresList(picture);
  const erase = () => showingProblems(problems, async () => {
    if (await deletePictures([picture.id])) location.hash = route(["gallery"], { person: picture.person });
  });
  const prompt = picture.prompt || "Picture";
  fill(
    view,
    element("p", { class: "back" }, element("a", { href: route(["gallery"], { person: picture.person }) }, picture.person ? `Gallery of ${picture.person}` : "Gallery")),
    element(
      "div",
      { class: "picture-columns" },
      element("a", { class: "large", href: imageAddress(picture.id), title: "At its own size" }, imageOf(picture, { style: { maxWidth: `${LARGEST_ZOOM * picture.width}px` } })),
      element(
        "section",
        { "aria-label": "Settings" },
        element("h1", { tabindex: "-1", class: prompt.length > 60 ? "long" : null }, prompt),
        element("p", { class: "soft" }, [picture.person, time(picture.created)].filter(Boolean).join(" · ")),
        element(
          "div",
          { class: "actions" },
          linkButton("Again as this one", route(["draw"], { from: picture.id }), { kind: "primary", sign: "again" }),
          keepButton(picture, { label: true }),
          linkButton("Download", imageAddress(picture.id), { sign: "download", download: fileName(picture) }),
          button("Delete", erase, { sign: "trash" }),
        ),
        problems,
        figures && [element("h2", {}, "Measured"), figures],
        element("h2", {}, "Settings"),
        settingsList(picture),
        others && element("details", {}, element("summary", {}, "More settings"), others),
      ),
    ),
  );
  return prompt;
}
