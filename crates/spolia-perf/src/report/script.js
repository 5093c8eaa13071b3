"use strict";
// The page says everything without this. It shows what a bar says below the drawing, and lets the arrow keys go from
// bar to bar.
(() => {
  const detail = document.getElementById("detail");
  const bars = [...document.querySelectorAll(".timeline .bar")];
  const show = (bar) => { if (detail) detail.textContent = bar.getAttribute("aria-label"); };
  bars.forEach((bar, at) => {
    // One stop for the tabulator, the arrows for the rest.
    bar.setAttribute("tabindex", at === 0 ? "0" : "-1");
    bar.addEventListener("focus", () => show(bar));
    bar.addEventListener("mouseenter", () => show(bar));
    bar.addEventListener("keydown", (event) => {
      const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: bars.length - 1 }[event.key];
      const next = bars[to];
      if (!next) return;
      event.preventDefault();
      bars.forEach((other) => other.setAttribute("tabindex", other === next ? "0" : "-1"));
      next.focus();
    });
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
