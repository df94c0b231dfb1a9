// The editor of a profile: keeps sections open and the focus in its place when the form changes, shows at the fields
// what the server found while the user types, and opens the section that a link leads to.
"use strict";
const form = () => document.getElementById("form");
// Fields that the user left. An empty field that nobody touched is not shown as wrong.
const visited = new Set();
document.addEventListener("focusout", (event) => visited.add(event.target.id));

// Sections that the user opened or closed.
const chosen = new Map();
document.addEventListener("click", (event) => {
  const details = event.target instanceof Element && event.target.closest("#form summary")?.parentElement;
  if (details?.id) chosen.set(details.id, !details.open);
});

let before;
document.addEventListener("htmx:before:swap", () => {
  const active = document.activeElement;
  const byName = active?.name ? `[name="${CSS.escape(active.name)}"][value="${CSS.escape(active.value)}"]` : null;
  before = { form: form(), place: active?.id ? `#${CSS.escape(active.id)}` : byName, top: window.scrollY };
});
document.addEventListener("htmx:after:swap", () => {
  if (!form()) return;
  if (before && form() !== before.form) resume();
  place();
});
function resume() {
  // What the user just added, moved or took over.
  const touched = form().querySelector("[data-touched]");
  for (const [id, isOpen] of chosen) {
    const details = document.getElementById(id);
    if (details && !(touched && details.contains(touched))) details.open = isOpen;
  }
  window.scrollTo(0, before.top);
  const fields = touched ? [...touched.querySelectorAll("input:not([type=hidden]), textarea, select")] : [];
  const next = fields.find((field) => !field.value) ?? fields[0] ?? form().querySelector("[autofocus]") ?? (before.place && form().querySelector(before.place));
  next?.focus({ preventScroll: !touched });
}

// The element of a path, or of the nearest path around it.
function nearest(path, suffix) {
  for (let at = path; at; at = at.slice(0, Math.max(at.lastIndexOf("."), at.lastIndexOf("[")))) {
    const found = document.getElementById(at + suffix);
    if (found) return found;
    if (!/[.[]/.test(at)) return null;
  }
  return null;
}
// Copies the answers of the server to their fields.
function place() {
  const checked = document.getElementById("checked");
  const status = form().querySelector(".save .status");
  if (!checked || !status) return;
  status.textContent = checked.dataset.status;
  status.classList.toggle("broken", checked.classList.contains("broken"));
  if (document.getElementById("text")) return;
  const answers = new Map();
  for (const item of checked.querySelectorAll("[data-at]")) {
    const space = nearest(item.dataset.at, "-error");
    if (!space) continue;
    const field = document.getElementById(space.id.slice(0, -"-error".length));
    const isUntouched = field && "value" in field && !field.value && !visited.has(field.id) && !space.hasChildNodes();
    if (!isUntouched) answers.set(space, [...(answers.get(space) ?? []), item]);
  }
  for (const space of form().querySelectorAll(".error[id]")) {
    const items = answers.get(space) ?? [];
    const copies = items.map((item) => item.querySelector(".answer").cloneNode(true));
    const isSame = copies.map((c) => c.textContent).join() === [...space.children].map((c) => c.textContent).join();
    if (!isSame) {
      for (const button of copies.flatMap((copy) => [...copy.querySelectorAll("[data-htmx-powered]")])) button.removeAttribute("data-htmx-powered");
      space.replaceChildren(...copies);
      htmx.process(space);
    }
    const isBroken = items.some((item) => !("warning" in item.dataset));
    space.closest(".field")?.classList.toggle("broken", isBroken);
    const field = document.getElementById(space.id.slice(0, -"-error".length));
    if (field && "value" in field) isBroken ? field.setAttribute("aria-invalid", "true") : field.removeAttribute("aria-invalid");
  }
  for (const link of form().querySelectorAll("nav.sections a")) {
    const section = document.getElementById(link.hash.slice(1));
    link.classList.toggle("broken", Boolean(section?.querySelector(".answer:not(.warn)")));
  }
}

// A link to a place opens what is folded around it; one to a line selects the line.
document.addEventListener("click", (event) => {
  const link = event.target instanceof Element && event.target.closest("#form a[href^='#']");
  if (!link) return;
  const target = document.getElementById(decodeURIComponent(link.hash.slice(1)));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at instanceof HTMLDetailsElement) at.open = true;
  if (target.id === "text" && link.dataset.line) {
    event.preventDefault();
    const lines = target.value.split("\n");
    const start = lines.slice(0, link.dataset.line - 1).join("\n").length + (link.dataset.line > 1 ? 1 : 0);
    target.focus();
    target.setSelectionRange(start, start + (lines[link.dataset.line - 1] ?? "").length);
  } else if ("value" in target) {
    event.preventDefault();
    target.focus();
  }
});
