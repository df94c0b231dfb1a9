// Searches the suite while a field of the editor is typed: a combobox with a list (ARIA APG). Arrow keys move in the list,
// Enter chooses, Escape closes. A field with `data-into` adds what is chosen to the text area of this id; every other one
// takes it as its value.
const PAUSE_MS = 150;
const popup = document.createElement("div");
popup.className = "found";
popup.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
const status = document.createElement("p");
status.className = "apart";
status.setAttribute("role", "status");
document.body.append(status);

let field = null; // the field whose list is shown or asked for
let timer;
let request;

const isCombobox = (target) => target instanceof HTMLInputElement && "search" in target.dataset;
const options = () => [...popup.querySelectorAll("[role=option]")];
const active = () => popup.querySelector("[aria-selected=true]");

function close() {
  clearTimeout(timer);
  request?.abort();
  popup.remove();
  popup.replaceChildren();
  field?.setAttribute("aria-expanded", "false");
  field?.removeAttribute("aria-controls");
  field?.removeAttribute("aria-activedescendant");
  field = null;
}

function select(option) {
  active()?.setAttribute("aria-selected", "false");
  if (option) {
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    field.setAttribute("aria-activedescendant", option.id);
  } else field.removeAttribute("aria-activedescendant");
}

function show(html) {
  popup.innerHTML = html;
  field.closest(".combo").append(popup);
  const list = options();
  field.setAttribute("aria-expanded", String(list.length > 0));
  if (list.length) field.setAttribute("aria-controls", "found-list");
  status.textContent = popup.querySelector("[data-status]")?.textContent ?? "";
  // A field that adds is of no use without a choice. In every other one the text itself may be right.
  select("into" in field.dataset ? list[0] : null);
  popup.scrollIntoView({ block: "nearest" });
}

async function ask(of) {
  request?.abort();
  request = new AbortController();
  const query = new URLSearchParams({ of: of.dataset.search, q: of.value.trim() });
  try {
    const response = await fetch(`/profiles/search?${query}`, { signal: request.signal, headers: { "HX-Request": "true" } });
    const html = response.ok ? await response.text() : null;
    if (field !== of || !of.isConnected) return;
    if (html) show(html);
    else tell(response.status === 401 ? "You are signed out. Reload the page to sign in." : `The search failed: the server answered ${response.status}. Type the whole name.`);
  } catch (error) {
    if (error.name !== "AbortError" && field === of) tell("The search failed: the server cannot be reached. Type the whole name.");
  }
}

function tell(text) {
  const line = document.createElement("p");
  line.dataset.status = "";
  line.textContent = text;
  show(line.outerHTML);
}

function typed(of) {
  if (field !== of) close();
  clearTimeout(timer);
  if (!of.value.trim()) return close();
  field = of;
  timer = setTimeout(() => ask(of), PAUSE_MS);
}

function add(into, value) {
  const lines = into.value.split("\n").map((line) => line.trim()).filter(Boolean);
  const isThere = lines.includes(value) || document.querySelector(`[name=drop][value="${CSS.escape(`${into.id}=${value}`)}"]`);
  if (!isThere) {
    into.value = [...lines, value].join("\n");
    into.rows = Math.min(Math.max(lines.length + 1, 2), 12);
    into.dispatchEvent(new Event("input", { bubbles: true }));
  }
  return isThere ? `${value} is in the list already` : `Added ${value}`;
}

function choose(option) {
  const [of, value] = [field, option.dataset.value];
  close();
  if ("into" in of.dataset) {
    status.textContent = add(document.getElementById(of.dataset.into), value);
    of.value = "";
  } else {
    of.value = value;
    status.textContent = value;
    of.dispatchEvent(new CustomEvent("input", { bubbles: true, detail: "chosen" }));
  }
  of.focus();
}

// What is typed to search only is no change of the profile: the check need not run.
document.addEventListener("input", (event) => {
  if (!isCombobox(event.target) || event.detail === "chosen") return;
  if ("into" in event.target.dataset) event.stopPropagation();
  typed(event.target);
}, true);

document.addEventListener("keydown", (event) => {
  if (!isCombobox(event.target) || event.isComposing) return;
  const list = field === event.target ? options() : [];
  const at = list.indexOf(active());
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (!list.length) return typed(event.target);
    const next = event.key === "ArrowDown" ? at + 1 : (at < 0 ? list.length : at) - 1;
    select(list[(next + list.length) % list.length]);
  } else if (event.key === "Enter") {
    // Enter in a field that searches only must not save the profile.
    if ("into" in event.target.dataset || at >= 0) event.preventDefault();
    if (at >= 0) choose(list[at]);
    else if ("into" in event.target.dataset) typed(event.target);
  } else if (event.key === "Escape" && (field || event.target.value)) {
    event.preventDefault();
    const wasOpen = popup.isConnected;
    close();
    if (!wasOpen && "into" in event.target.dataset) event.target.value = "";
  }
});

popup.addEventListener("click", (event) => {
  const option = event.target.closest("[role=option]");
  if (option && field) choose(option);
});
document.addEventListener("focusout", (event) => {
  if (event.target === field) close();
});
// The form was replaced.
document.addEventListener("htmx:after:swap", () => {
  if (field && !field.isConnected) close();
});
