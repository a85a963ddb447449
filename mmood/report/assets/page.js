"use strict";
// A click on the head of a column sorts by it: numbers by their full value, the best-looking end first on a second click.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const direction = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const compare = (a, b) => {
      const [x, y] = [a.cells[column], b.cells[column]];
      const [v, w] = [x.dataset.v, y.dataset.v];
      if (v !== undefined && w !== undefined) return sign * (v - w);
      if ((v === undefined) !== (w === undefined)) return v === undefined ? 1 : -1;
      return sign * x.textContent.localeCompare(y.textContent, "en", { numeric: true });
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
