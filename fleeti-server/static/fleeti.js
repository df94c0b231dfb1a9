// What htmx does not do: questions before what cannot be undone, times that stay true, a log that stays at its end.
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
document.addEventListener("htmx:after:swap", () => {
  tellTimes();
  for (const log of document.querySelectorAll("pre[data-follow]")) log.scrollTop = log.scrollHeight;
});
