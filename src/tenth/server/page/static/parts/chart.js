// A curve of each column of a table of measurements, drawn small. What it shows is in the table too, so readers of screens pass it over.

import { element } from "./elements.js";
import { figure } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 240;
const HEIGHT = 72;
const EDGE = 4; // pixels around a curve, so that its line is whole

/** A curve for each column of numbers against the first one. rows: objects by column; fewer than two give null. */
export function curves(rows) {
  const [across, ...names] = [...new Set(rows.flatMap(row => Object.keys(row)))];
  const drawn = names.map(name => {
    const points = rows.filter(row => Number.isFinite(row[name]) && Number.isFinite(row[across])).map(row => [row[across], row[name]]);
    return points.length > 1 ? curve(name, points) : null;
  });
  return drawn.some(Boolean) ? element("div", { class: "curves", "aria-hidden": "true" }, drawn) : null;
}

function curve(name, points) {
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "polyline");
  const [x, y] = [0, 1].map(axis => scale(points.map(point => point[axis]), axis === 0 ? WIDTH : -HEIGHT));
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("class", "curve");
  line.setAttribute("points", points.map(point => `${x(point[0]).toFixed(1)},${y(point[1]).toFixed(1)}`).join(" "));
  svg.append(line);
  const values = points.map(point => point[1]);
  const range = `${figure(Math.min(...values))} to ${figure(Math.max(...values))}`;
  return element("figure", {}, svg, element("figcaption", {}, element("span", {}, `${name} `, element("b", {}, figure(values.at(-1)))), element("span", { class: "soft" }, range)));
}

/** Values -> pixels between the edges; of a negative length from its end backwards. */
function scale(values, length) {
  const least = Math.min(...values);
  const range = Math.max(...values) - least || 1;
  const inner = Math.abs(length) - 2 * EDGE;
  return value => {
    const part = (value - least) / range;
    return EDGE + inner * (length < 0 ? 1 - part : part);
  };
}
