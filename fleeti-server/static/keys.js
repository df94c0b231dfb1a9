// Keys: `/` goes to the search, `?` shows the keys. The page works without them.
"use strict";
(() => {
  const isTyping = (target) => target instanceof Element && target.closest("input, textarea, select, [contenteditable]");
  // The search of the page, or that of the header.
  const search = () => document.querySelector("main input[type=search]") ?? document.getElementById("find");
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const keys = document.getElementById("keys");
    if (event.key === "Escape" && event.target === search()) event.target.blur();
    if (isTyping(event.target) || keys?.open) return;
    if (event.key === "/") {
      event.preventDefault();
      search()?.focus();
      search()?.select();
    } else if (event.key === "?") {
      keys?.showModal();
    }
  });
})();
