// The token that a server asks for when it can be reached from other machines.

import { post } from "../parts/api.js";
import { button, element, field } from "../parts/elements.js";
import { problemBox } from "../parts/notices.js";

/** The view. done: called once the server took the token. Returns the title. */
export function show(view, { done }) {
  const token = element("input", { type: "password", name: "token", required: true, autocomplete: "current-password", spellcheck: "false" });
  const problems = element("div");
  const form = element(
    "form",
    { class: "panel" },
    element("h1", { tabindex: "-1" }, "Log in"),
    element("p", {}, "This server asks for its token. Whoever started it saw it in the terminal."),
    field("Token", token),
    problems,
    element("div", { class: "actions" }, button("Log in", null, { kind: "primary", type: "submit" })),
  );
  form.addEventListener("submit", async event => {
    event.preventDefault();
    problems.replaceChildren();
    try {
      await post("/v1/session", { token: token.value.trim() }, { quiet: true });
      done();
    } catch (problem) {
      problems.replaceChildren(problemBox(problem));
      token.select();
    }
  });
  view.append(form);
  token.focus();
  return "Log in · tenth";
}
