"use strict";
// Sorts and filters each table of scans; without this script tables stay in their first order.
document.querySelectorAll("section.group").forEach((group) => {
  const table = group.querySelector("table[id^=scans]");
  if (!table) return;
  const body = table.tBodies[0], rows = [...body.rows], headings = [...table.tHead.rows[0].cells];
  const field = (name) => group.querySelector(`[id^=${name}]`);
  const search = field("search"), state = field("state"), most = field("most"), count = field("count");

  function sort(column) {
    const heading = headings[column], numbers = heading.dataset.sort === "number";
    const up = heading.getAttribute("aria-sort") === "descending" || (!numbers && !heading.hasAttribute("aria-sort"));
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => numbers ? a - b : a.localeCompare(b);
    rows.sort((one, other) => {
      const a = value(one), b = value(other);
      if (a === "" || b === "") return (a === "") - (b === ""); // missing values come last
      return up ? compare(a, b) : compare(b, a);
    });
    body.append(...rows);
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const limit = most.value === "" ? Infinity : Number(most.value);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word)) &&
        (!state.value || row.dataset.state === state.value) &&
        (limit === Infinity || (row.dataset.p !== "" && Number(row.dataset.p) <= limit));
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length} scans`;
  }

  headings.forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => sort(column));
  });
  for (const one of [search, state, most]) one.addEventListener("input", filter);
  search.form.addEventListener("submit", (event) => event.preventDefault());
  search.form.addEventListener("reset", () => setTimeout(filter));
});
