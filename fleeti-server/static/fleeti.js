// What htmx does not do: confirm irreversible actions, keep relative times current, keep a log scrolled to its end,
// and show errors of the server.
"use strict";
document.addEventListener("submit", (event) => {
  const question = event.target.getAttribute("data-confirm");
  if (question && !window.confirm(question)) event.preventDefault();
});

const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
function tellTimes() {
  for (const time of document.querySelectorAll("time[data-relative]")) {
    const seconds = Math.round((Date.parse(time.dateTime) - Date.now()) / 1000);
    const [unit, size] = units.find(([, s]) => Math.abs(seconds) >= s) ?? units[3];
    time.textContent = words.format(Math.trunc(seconds / size), unit);
  }
}
tellTimes();
setInterval(tellTimes, 10000);

// Follow a log only while it is scrolled to its end.
const atEnd = new WeakMap();
document.addEventListener("scroll", (event) => {
  const log = event.target;
  if (log instanceof Element && log.matches("pre[data-follow]")) {
    atEnd.set(log, log.scrollHeight - log.scrollTop - log.clientHeight < 40);
  }
}, true);
function follow() {
  for (const log of document.querySelectorAll("pre[data-follow]")) {
    if (atEnd.get(log) !== false) log.scrollTop = log.scrollHeight;
  }
}
follow();

function trouble(text) {
  const place = document.getElementById("trouble");
  if (place) place.textContent = text;
}
function refused(status) {
  if (status === 401) window.location.assign("/signin");
  else trouble(status ? `The server answered ${status}: this page may not be up to date.` : "The server cannot be reached: this page may not be up to date.");
}
// Retry failed requests: the missed change may have been the last one for a long time.
let later;
function again(milliseconds) {
  clearTimeout(later);
  later = setTimeout(() => document.body.dispatchEvent(new Event("again")), milliseconds);
}
window.addEventListener("online", () => again(0));
let pause = 1000;
function missed(event, status) {
  refused(status);
  if (status && status < 500 && status !== 429) return;
  pause = Math.min(pause * 2, 60000);
  const source = event.target;
  // A stream that was open once reconnects by itself. One that never opened must be started again.
  if (source instanceof Element && source.hasAttribute("hx-sse:connect")) setTimeout(() => htmx.process(source, true), pause);
  else again(pause);
}
document.addEventListener("htmx:error", (event) => missed(event));
document.addEventListener("htmx:after:swap", () => {
  trouble("");
  pause = 1000;
  tellTimes();
  follow();
});
document.addEventListener("htmx:response:error", (event) => missed(event, event.detail?.ctx?.response?.status));
document.addEventListener("htmx:sse:error", (event) => refused(event.detail?.status));
