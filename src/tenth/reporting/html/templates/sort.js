// The head of a column becomes a button that sorts the rows: the best first, then turned around. Groups of rows stay apart,
// rows without a value stay last. Without this script the tables are as they were written: by similarity.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].querySelectorAll("th")];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const best = column > 0 && !head.textContent.includes("↑") ? "ascending" : column > 0 ? "descending" : "ascending";
      const turned = best === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === best ? turned : best;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      for (const body of table.tBodies) {
        body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], column, order)));
      }
    });
  });
}

function compare(a, b, column, order) {
  const sign = order === "ascending" ? 1 : -1;
  if (column === 0) {
    return sign * a.textContent.localeCompare(b.textContent);
  }
  const [x, y] = [a, b].map((cell) => parseFloat((cell.firstChild?.textContent ?? "").replace("−", "-").replaceAll(",", "")));
  if (isNaN(x) || isNaN(y)) {
    return isNaN(x) - isNaN(y);
  }
  return sign * (x - y);
}
