"use strict";
// What a page can do beyond its text: filter and sort, open what a link names.
(() => {
  const all = (what, from = document) => [...from.querySelectorAll(what)];
  const one = (what, from = document) => from.querySelector(what);

  const rows = one("#rows");
  const form = one("form.filter");
  const ORDERS = {
    given: (a, b) => a.dataset.n - b.dataset.n,
    worst: (a, b) => b.dataset.rank - a.dataset.rank || b.dataset.ratio - a.dataset.ratio || a.dataset.n - b.dataset.n,
    best: (a, b) => a.dataset.rank - b.dataset.rank || a.dataset.ratio - b.dataset.ratio || a.dataset.n - b.dataset.n,
    name: (a, b) => (a.dataset.name < b.dataset.name ? -1 : 1),
  };

  function filter() {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = ["system", "backend", "runtime", "precision", "target", "outcome"]
      .filter((k) => form.elements[k] && form.elements[k].value !== "")
      .map((k) => [k, form.elements[k].value]);
    const found = all(":scope > details", rows);
    let shown = 0;
    for (const row of found) {
      const text = row.dataset.name.toLowerCase();
      const fits = words.every((w) => text.includes(w)) && chosen.every(([k, v]) => row.dataset[k] === v);
      row.hidden = !fits;
      shown += fits;
    }
    form.elements.shown.value = shown === found.length ? `all ${shown} shown` : `${shown} of ${found.length} shown`;
  }

  if (form && rows) {
    form.hidden = false;
    form.addEventListener("submit", (e) => e.preventDefault());
    form.addEventListener("input", filter);
    form.addEventListener("reset", () => setTimeout(() => { sort(); filter(); }));
    const sort = () => {
      const found = all(":scope > details", rows);
      const wanted = [...found].sort(ORDERS[form.elements.order.value]);
      if (wanted.some((row, i) => row !== found[i])) rows.append(...wanted); // what is moved loses the keyboard's focus
    };
    form.elements.order.addEventListener("change", sort);
    one("button.open", form).addEventListener("click", (e) => {
      const open = e.target.getAttribute("aria-pressed") !== "true";
      for (const row of all(":scope > details:not([hidden])", rows)) row.open = open;
      e.target.setAttribute("aria-pressed", open);
      e.target.textContent = open ? "Close all" : "Open all";
    });
    filter();
  }

  // Tables whose columns sort: a head becomes a button.
  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (tr) => { const cell = tr.cells[column]; return cell.dataset.value ?? cell.textContent.trim(); };
        const compare = (a, b) => {
          const [x, y] = [value(a), value(b)];
          const numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
          return (numbers ? x - y : x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
        };
        table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
      });
    });
  }

  function follow() {
    let name = location.hash.slice(1);
    try { name = decodeURIComponent(name); } catch { /* as it is */ }
    const target = name && document.getElementById(name);
    if (!target) return;
    if (target.hidden && form) { form.reset(); setTimeout(follow); return; } // when the rows lie as they were
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target.scrollIntoView();
    const focus = target.tagName === "DETAILS" ? one("summary", target) : target;
    if (!focus.hasAttribute("tabindex") && focus.tagName !== "SUMMARY") focus.tabIndex = -1;
    focus.focus({ preventScroll: true });
  }
  addEventListener("hashchange", follow);
  // A link that is followed twice opens again what was closed between.
  document.addEventListener("click", (e) => {
    const link = e.target.closest && e.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) follow();
  });

  follow();
})();
