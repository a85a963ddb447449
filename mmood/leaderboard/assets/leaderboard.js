// Which kinds of scores are shown, which place of a board, and the provenance that a link points to.
for (const board of document.querySelectorAll("section.board")) {
  const place = board.querySelector("select");
  const show = () => {
    for (const table of board.querySelectorAll("[data-place]")) table.hidden = table.dataset.place !== place.value;
  };
  if (place) { place.addEventListener("change", show); show(); }
}
const kinds = [...document.querySelectorAll("fieldset.kinds input")];
const filter = () => {
  const shown = new Set(kinds.filter((kind) => kind.checked).map((kind) => kind.value));
  for (const row of document.querySelectorAll("tr")) {
    const cell = row.querySelector("td.kind");
    if (cell) row.hidden = !shown.has(cell.textContent);
  }
};
for (const kind of kinds) kind.addEventListener("change", filter);
const open = () => {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", open);
open();
