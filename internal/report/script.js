"use strict";
(() => {
  const $ = (q, of = document) => of.querySelector(q), all = (q, of = document) => [...of.querySelectorAll(q)];
  const filter = $("#filter");
  let apply = () => {};
  if (filter) {
    const articles = all("#samples article").map(a => ({ at: a, group: a.closest("details"), text: a.textContent.toLowerCase() }));
    const find = $("input[type=search]", filter), picks = all("input[type=checkbox]", filter), out = $("output", filter);
    apply = () => {
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      const scores = new Set(picks.filter(p => p.checked).map(p => p.value));
      const shown = new Map();
      let n = 0;
      for (const a of articles) {
        const fits = scores.has(a.group.dataset.score) && words.every(w => a.text.includes(w));
        a.at.hidden = !fits;
        if (fits) { n++; shown.set(a.group, (shown.get(a.group) || 0) + 1); }
      }
      for (const g of all("#samples details.group")) {
        g.hidden = !shown.has(g);
        if (words.length && shown.has(g)) g.open = true;
      }
      out.textContent = n + " of " + articles.length + " pairs";
    };
    filter.hidden = false;
    filter.addEventListener("input", apply);
    apply();
  }
  // A run that goes on: load the page again, and have what was opened, found and scrolled to stay as it was.
  const every = Number(document.body.dataset.refresh || 0), key = "selfalign " + document.title;
  if (!every) return;
  const details = all("details");
  try {
    const kept = JSON.parse(sessionStorage.getItem(key) || "null");
    if (kept) {
      details.forEach((d, i) => { if (kept.open[i] !== undefined) d.open = kept.open[i]; });
      if (filter && kept.find) { $("input[type=search]", filter).value = kept.find; apply(); }
      scrollTo(0, kept.y);
    }
  } catch { /* nothing was kept */ }
  setInterval(() => {
    if (document.hidden || filter?.contains(document.activeElement) || String(getSelection())) return;
    try {
      sessionStorage.setItem(key, JSON.stringify({ y: scrollY, open: details.map(d => d.open), find: filter ? $("input[type=search]", filter).value : "" }));
    } catch { /* then nothing is kept */ }
    location.reload();
  }, every * 1000);
})();
