// Every page of the server in light, dark and on a phone, looked at by axe: one page of each route, found by its links.
//
//   node walk.mjs URL TOKEN_FILE PLAYWRIGHT_DIR SCREENSHOT_DIR PEOPLE_DIR ROUTES_FILE
//
// ROUTES_FILE is the table of routes of the server, fleeti-server/src/access.rs. A route of its pages that the walk does
// not reach fails the test.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { ask, close, complaints, context, look, page, rest, soon, step, url } from "./opened.mjs";

/** Routes that answer with no page of their own. */
const NO_PAGES = {
  "/live": "a stream of events",
  "/profiles/search": "a part of the editor, which that script looks at",
  "/builds/{build}/log": "a part of the page of the build",
  "/commands/{command}/result": "a file",
  "/releases/{release}/evidence": "a file",
  "/releases/{release}/files/{path:.*}": "files",
};
/** Pages without a link of their own, by what others are linked. */
const FURTHER = [
  "/devices?filter=name%3Dnobody", "/devices?filter=color%3D", "/devices?trouble=1", "/devices?fleet=demo", "/builds/nothing",
  "/packages", "/packages?package=bash", "/profiles/new", "/profiles/kiosk/1/edit", "/profiles/shop/1/changes/2", "/rollouts/plan?release=kiosk%401&fleet=demo&waves=1%2C+100%25",
];

const table = readFileSync(rest[1], "utf8");
const routes = [...table.matchAll(/(?:rule|own)\("GET", "(\/[^"]*)"/g)].map((found) => found[1]).filter((route) => !route.startsWith("/api/"));
assert.ok(routes.length > 30, "the table of routes was not understood");
const pages = routes.filter((route) => !(route in NO_PAGES));
const forms = pages.map((route) => [route, new RegExp(`^${route.replace(/\{[^}]*\}/g, "[^/]+")}$`)]);
// A route without a parameter goes before one with one.
const routeOf = (path) => (forms.find(([route]) => route === path) ?? forms.find(([, form]) => form.test(path)))?.[0];

/** Adds an administrator, who joins by the link. */
async function join(name, tab, atLink) {
  const { body } = await ask("POST", "/accounts", { name, kind: "person", grants: [{ role: "admin" }] });
  await tab.goto(`${url}${body.link.path}`);
  await atLink();
  await tab.getByLabel("Password").fill("correct horse battery");
  await tab.getByRole("button", { name: "Set password and sign in" }).click();
  await tab.getByRole("heading", { name: "Overview" }).waitFor();
}

await step("the pages without a login", async () => {
  for (const [name, path] of [["signin", "/signin"], ["join-unknown", `/join/${"0".repeat(64)}`]]) {
    await page.goto(`${url}${path}`);
    await look(`walk-${name}`);
  }
  complaints.length = 0; // a link that does not exist is refused
  await join("dora", page, () => look("walk-join"));
});

await step("an update that fails, of which there is an alert", async () => {
  const rollout = { release: "kiosk@1", fleet: "lobby" };
  await soon("a rollout to the lobby", async () => (await ask("POST", "/rollouts", rollout)).ok);
  await soon("an alert", async () => (await ask("GET", "/alerts")).body.length > 0);
});

await step("a webhook and a receiver of e-mail that do not answer", async () => {
  const hook = (await ask("POST", "/webhooks", { url: "https://ops.invalid/in", events: ["alerts.raised"] })).body.webhook;
  const receiver = (await ask("POST", "/email-receivers", { address: "ops@ops.example", severity: "warning" })).body;
  for (const [path, list] of [[`/webhooks/${hook.id}`, "deliveries"], [`/email-receivers/${receiver.id}`, "emails"]]) {
    assert.ok((await ask("POST", `${path}/test`)).ok, path);
    await soon("an attempt", async () => (await ask("GET", `${path}/${list}`)).body.some((found) => found.answer !== ""));
  }
});

await step("an act that waits for a second person", async () => {
  const other = await context.browser().newContext();
  await join("erik", await other.newPage(), () => {});
  await other.close();
  assert.ok((await ask("PUT", "/approval-policy", { rollout_fleets: ["lobby"] })).ok);
  await page.goto(`${url}/rollouts/plan?release=kiosk%402&fleet=lobby`);
  await page.getByLabel("Reason, if a second person must approve").fill("a new hall");
  page.once("dialog", (dialog) => dialog.accept());
  await page.getByRole("button", { name: "Start rollout" }).click();
  await page.waitForURL("**/approvals/*");
});

const queued = ["/", ...FURTHER];
const taken = new Set(queued);
const reached = new Set();
while (queued.length > 0) {
  const path = queued.shift();
  const before = complaints.length;
  const response = await page.goto(`${url}${path}`);
  if (response.ok()) reached.add(routeOf(new URL(page.url()).pathname));
  const name = `walk${path.replace(/[^a-z0-9]+/gi, "-").slice(0, 60)}`;
  await step(path, () => look(name));
  const links = await page.locator("a[href^='/']:not([download])").evaluateAll((all) => all.map((a) => a.getAttribute("href")));
  for (const link of links) {
    const next = routeOf(link.split(/[?#]/)[0]);
    // One page of each route.
    if (next === undefined || reached.has(next) || taken.has(next)) continue;
    taken.add(next);
    queued.push(link.split("#")[0]);
  }
  if (!response.ok()) complaints.length = before; // the browser reports that the page is refused
}
assert.deepEqual(pages.filter((route) => !reached.has(route)), [], "pages that no link leads to");
await context.close();
await close();
