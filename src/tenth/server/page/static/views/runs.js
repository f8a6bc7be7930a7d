// Experiments and trainings, as they go on.

import { get } from "../parts/api.js";
import { curves } from "../parts/chart.js";
import { element, emptyState } from "../parts/elements.js";
import { figure, path, route, time } from "../parts/format.js";
import { terms } from "../parts/settings.js";

const SECONDS = 5; // until they are asked for again
const STATUS = { running: "Running", done: "Done", stopped: "Stopped" };

export async function show(view, { argument, signal }) {
  return argument ? showRun(view, argument, signal) : showRuns(view, signal);
}

/** Call `draw` with what an address answers, now and every few seconds. Only the first failure is the view's. */
async function live(address, draw, signal) {
  let before = "";
  const ask = async () => {
    const told = await get(address, { signal });
    const text = JSON.stringify(told);
    if (text !== before) draw(told);
    before = text;
  };
  await ask();
  const timer = setInterval(() => ask().catch(() => {}), SECONDS * 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
}

async function showRuns(view, signal) {
  const list = element("div");
  view.append(element("h1", { tabindex: "-1" }, "Runs"), element("p", { class: "lead" }, "Experiments and trainings on this machine, as they go on."), list);
  await live("/v1/runs", told => {
    const empty = emptyState("No runs", "Those in the folders that the server's settings name as run_dirs are seen here.");
    list.replaceChildren(told.data.length ? element("ul", { class: "runs", role: "list" }, told.data.map(runCard)) : empty);
  }, signal);
  return "Runs";
}

function runCard(run) {
  const metrics = Object.entries(run.metrics ?? {}).slice(0, 6);
  return element(
    "li",
    { class: "run" },
    element("header", {}, element("h2", {}, element("a", { href: route(["runs", run.id]) }, run.name)), element("p", { class: "status", dataset: { status: run.status } }, STATUS[run.status] ?? run.status)),
    element("p", { class: "soft" }, [run.kind, run.total ? `${run.done.toLocaleString()} of ${run.total.toLocaleString()}` : null, time(run.changed)].filter(Boolean).join(" · ")),
    progress(run),
    metrics.length ? terms(metrics.map(([name, value]) => [name, figure(value)])) : null,
  );
}

function progress(run) {
  if (!run.total) return null;
  return element("progress", { max: run.total, value: Math.min(run.done, run.total), "aria-label": `Progress of ${run.name}` });
}

async function showRun(view, id, signal) {
  const place = element("div");
  view.append(element("p", { class: "back" }, element("a", { href: "#/runs" }, "Runs")), place);
  let title = "Run";
  await live(path("v1", "runs", id), run => {
    title = run.name;
    const focused = place.contains(document.activeElement);
    const settings = Object.entries(run.settings ?? {}).map(([name, value]) => [name, typeof value === "object" && value !== null ? JSON.stringify(value) : String(value)]);
    place.replaceChildren(
      element("h1", { tabindex: "-1" }, run.name),
      element("p", { class: "soft" }, [run.kind, STATUS[run.status] ?? run.status, run.total ? `${run.done.toLocaleString()} of ${run.total.toLocaleString()}` : null, time(run.changed)].filter(Boolean).join(" · ")),
      ...[progress(run)].filter(Boolean),
      ...section("Metrics so far", Object.keys(run.metrics ?? {}).length ? terms(Object.entries(run.metrics).map(([name, value]) => [name, figure(value)])) : element("p", { class: "soft" }, "None yet.")),
      ...section("History", run.history?.length ? element("div", {}, curves(run.history), historyTable(run.history)) : null),
      ...section("Settings", settings.length ? terms(settings) : null),
    );
    if (focused) place.querySelector("h1").focus();
  }, signal);
  return title;
}

function section(title, content) {
  return content ? [element("h2", {}, title), content] : [];
}

function historyTable(rows) {
  const columns = [...new Set(rows.flatMap(row => Object.keys(row)))];
  return element(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "History" },
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, columns.map(name => element("th", { scope: "col" }, name)))),
      element("tbody", {}, rows.map(row => element("tr", {}, columns.map(name => element("td", {}, figure(row[name])))))),
    ),
  );
}
