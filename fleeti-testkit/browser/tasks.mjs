// Tasks of an operator, each with at most three clicks and five actions, counted from the overview.
//
//   node tasks.mjs URL TOKEN_FILE PLAYWRIGHT_DIR SCREENSHOT_DIR
//
// A click is a click, or the answer to a question of the browser. An action is a click, a field that is filled or chosen,
// or a key. The script needs the release kiosk@1, which pages.mjs makes, and kiosk@2, which is in no rollout.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { ask, close, context, look, page, soon, step, token, url } from "./opened.mjs";

const CLICKS_MAX = 3;
const ACTIONS_MAX = 5;

let clicks = 0;
let actions = 0;
const act = {
  async click(where) { clicks += 1; actions += 1; await where.click(); },
  async fill(where, text) { actions += 1; await where.fill(text); },
  async choose(where, what) { actions += 1; await where.selectOption(what); },
  async press(key) { actions += 1; await page.keyboard.press(key); },
  /** Clicks, and agrees to what the browser asks then. */
  async agree(where) {
    clicks += 2; actions += 2;
    page.once("dialog", (dialog) => dialog.accept());
    await where.click();
  },
};
const button = (name) => page.getByRole("button", { name });
const link = (name) => page.getByRole("link", { name, exact: true }).first();

/** Does a task from the overview, and then checks what it came to. */
async function task(name, work, check) {
  await step(name, async () => {
    await page.goto(url);
    await page.getByRole("heading", { name: "Overview" }).waitFor();
    [clicks, actions] = [0, 0];
    await work();
    const needed = `${clicks} clicks and ${actions} actions`;
    await check();
    assert.ok(clicks <= CLICKS_MAX && actions <= ACTIONS_MAX, `${name}: ${needed}`);
    console.log(`      ${needed}`);
  });
}

async function api(method, path, body) {
  const answer = await ask(method, path, body);
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}

await page.goto(`${url}/signin`);
await page.getByLabel("Administrator's token").fill(token);
await button("Sign in with the token").click();
await page.getByRole("heading", { name: "Overview" }).waitFor();
// Devices that have followed the channel of their fleet.
const runs = (release) => async () => (await api("GET", "/devices?limit=500")).filter((found) => !found.revoked && found.boot?.running === release);
const devices = await soon("two devices run kiosk@1", async () => {
  const found = await runs("kiosk@1")();
  return found.length > 1 && found;
});
const [device] = devices;
const leaver = `leaver-${Date.now()}`;
await api("POST", "/accounts", { name: leaver, kind: "person", grants: [{ role: "viewer" }] });

await step("the keys are shown by ?, and / goes to the search", async () => {
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog", { name: "Keys" }).waitFor({ state: "hidden" });
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "find");
  await page.keyboard.type("?/");
  assert.equal(await page.locator("#find").inputValue(), "?/", "keys are text in a field");
});

await task("enroll a device", async () => {
  await act.click(link("Enroll a device"));
  await act.fill(page.locator("#fleet"), "demo");
  await act.click(button("Create record"));
}, async () => {
  await page.getByRole("heading", { name: "Enrollment record for fleet demo" }).waitFor();
  const record = JSON.parse(await page.locator("#record").innerText());
  assert.equal(record.token.length, 64);
  // The pages never show this token again.
  await page.locator("#record").evaluate((node) => { node.textContent = "(a record)"; });
  await look("enrolled");
  await page.goto(`${url}/enroll`);
  await look("enroll");
});

await task("find a device", async () => {
  await act.press("/");
  await act.fill(page.locator("#find"), device.id);
  await act.press("Enter");
}, async () => {
  await page.waitForURL(`**/devices/${device.id}`);
});

await task("why was it not updated", async () => {
  await act.press("/");
  await act.fill(page.locator("#find"), device.id);
  await act.press("Enter");
}, async () => {
  await page.getByRole("heading", { name: "Why this release" }).waitFor();
  await page.getByText("Decided by").waitFor();
});

await task("who runs a release", async () => {
  await act.click(page.locator("#charts li a", { hasText: "@" }).first());
}, async () => {
  await page.locator("[data-label='Device'] a").first().waitFor();
});

await task("change the Wi-Fi password of a site", async () => {
  await act.click(page.locator("#fleets").getByRole("link", { name: device.fleet, exact: true }));
  await act.fill(page.getByLabel("Name", { exact: true }), "wifi.psk");
  await act.fill(page.getByLabel("Secret", { exact: true }), "correct horse battery staple");
  await act.click(button("Set secret"));
}, async () => {
  await page.locator("dt", { hasText: "wifi.psk" }).waitFor();
  await look("fleet-with-devices");
});

await task("offboard a person", async () => {
  await act.click(link("Users"));
  await act.click(link(leaver));
  await act.fill(page.getByLabel(`Type ${leaver}`), leaver);
  await act.click(button("Offboard"));
}, async () => {
  await page.locator(".badge", { hasText: "disabled" }).waitFor();
  await look("user");
});

await step("the page of a device, and its timeline", async () => {
  await page.goto(`${url}/devices/${device.id}`);
  await page.locator("#timeline li").first().waitFor();
  await look("device-timeline");
  await page.goto(`${url}/devices/${device.id}/timeline`);
  await look("timeline");
});

await page.goto(url);
await look("overview-needs");
await task("start an update of a fleet", async () => {
  await act.click(page.locator("#needs").getByRole("link", { name: /^Plan rollout/ }));
  await act.agree(button("Start rollout"));
}, async () => {
  await page.locator("#phase").waitFor();
});
const active = async () => (await api("GET", "/rollouts")).filter((rollout) => rollout.phase === "running");
const [updated] = await soon("the first wave runs kiosk@2", async () => {
  const found = await runs("kiosk@2")();
  return found.length > 0 && (await active())[0]?.counts.succeeded === 1 && found;
});

await task("stop the rollout of a fleet", async () => {
  await act.agree(page.locator("#rollouts").getByRole("button", { name: /^Pause/ }));
}, async () => {
  await page.locator("#phase", { hasText: /paus/ }).waitFor();
  await page.goto(url);
  await page.locator("#needs").getByText("is paused").waitFor();
  await look("overview-paused");
  page.once("dialog", (dialog) => dialog.accept());
  await page.locator("#needs").getByRole("button", { name: /^Resume/ }).click();
  await page.locator("#phase", { hasText: "running" }).waitFor();
});

let question = "";
page.on("dialog", (dialog) => { question = dialog.message(); });
await task("stop everything at once", async () => {
  await look("overview-running");
  await act.fill(page.getByLabel("Reason to stop all rollouts"), "a hole in the kernel");
  await act.agree(button("Stop all rollouts"));
}, async () => {
  await page.locator("#needs").getByText("is paused").waitFor();
  assert.match(question, /^Pause every rollout that runs \(kiosk@2 to fleet demo\)\?/, "the question says what it does");
  assert.deepEqual(await active(), []);
  assert.equal(await button("Stop all rollouts").count(), 0, "nothing is left to stop");
  const acts = (await soon("the act is in the audit log", async () => {
    const { lines } = await api("GET", "/audit/entries");
    return lines.some((line) => line.includes("a hole in the kernel")) && lines;
  })).map((line) => JSON.parse(line).act);
  const paused = acts.filter((entry) => entry.action === "rollout.pause" && entry.subject.endsWith(" a hole in the kernel"));
  assert.equal(paused.length, 1, "one entry for each rollout");
});

await task("put one device back", async () => {
  await act.press("/");
  await act.fill(page.locator("#find"), updated.id);
  await act.press("Enter");
  await page.waitForURL(`**/devices/${updated.id}`);
  await look("device-put-back");
  await act.fill(page.getByLabel("Reason to put it back"), "loses its sound");
  await act.click(button("Put back to kiosk@1"));
}, async () => {
  await page.getByText("kiosk@1, an operator takes the device back to it").waitFor();
  const { pin } = await api("GET", `/devices/${updated.id}/why`);
  assert.deepEqual([pin.release, pin.reason, pin.downgrade], ["kiosk@1", "loses its sound", true]);
  assert.equal(await button("Put back to kiosk@1").count(), 0, "it goes back already");
});

await task("send a support bundle", async () => {
  await act.press("/");
  await act.fill(page.locator("#find"), device.id);
  await act.press("Enter");
  await page.waitForURL(`**/devices/${device.id}`);
  await act.fill(page.getByLabel("Support key of the profile"), "helpdesk");
  await act.click(button("Collect support bundle"));
}, async () => {
  const bundle = page.getByRole("link", { name: /^Download \(/ }).first();
  await bundle.waitFor({ timeout: 60_000 });
  const [download] = await Promise.all([page.waitForEvent("download"), bundle.click()]);
  const bytes = readFileSync(await download.path());
  assert.ok(bytes.length > 500 && !bytes.includes("os-release"), "a bundle that only the support key opens");
  await look("device-support-bundle");
});

await task("export the evidence of a release", async () => {
  await act.click(page.locator("#releases").getByRole("link", { name: "kiosk@1" }));
  await page.getByRole("heading", { name: "Release kiosk@1" }).waitFor();
  const download = page.waitForEvent("download");
  await act.click(page.getByRole("link", { name: "Download evidence" }));
  const path = await (await download).path();
  globalThis.evidence = JSON.parse(readFileSync(path, "utf8"));
}, async () => {
  const { release, builds, rollouts, entries, searched } = globalThis.evidence;
  assert.equal(release.name, "kiosk@1");
  assert.deepEqual(builds.flatMap((found) => [found.requested.name, ...found.approvals.map((by) => by.name)]), ["alice", "bob"]);
  assert.deepEqual(rollouts.map((found) => [found.fleet, found.phase]), [["demo", "succeeded"]]);
  const acts = entries.map((found) => JSON.parse(found.entry)).map(({ act, at_s }) => [act.action, act.actor, at_s > 0]);
  assert.ok(acts.some(([action, actor, timed]) => action === "release.approve" && actor === "bob" && timed), JSON.stringify(acts));
  for (const action of ["release.request", "release.sign", "release.publish", "rollout.start"]) assert.ok(acts.some(([found]) => found === action), action);
  assert.deepEqual([searched.from, searched.left_out, searched.until], [0, 0, searched.size]);
  await look("release-evidence");
});

await task("replace a broken device", async () => {
  const [old, spare] = [updated, devices.find((found) => found.id !== updated.id)];
  await act.press("/");
  await act.fill(page.locator("#find"), old.id);
  await act.press("Enter");
  await page.waitForURL(`**/devices/${old.id}`);
  await act.fill(page.getByLabel("Id of the new device"), spare.id);
  await act.click(button("Replace device"));
}, async () => {
  await page.waitForURL(`**/devices/${devices.find((found) => found.id !== updated.id).id}`);
});

await step("the settings page and the list of devices", async () => {
  await page.goto(`${url}/account`);
  await look("settings");
  await page.goto(`${url}/devices`);
  await look("devices-list");
});

await step("no page moves while it loads", async () => {
  await context.addInitScript(() => {
    window.shift = 0;
    const add = (list) => list.getEntries().forEach((entry) => { window.shift += entry.hadRecentInput ? 0 : entry.value; });
    new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
  });
  for (const path of ["/", "/devices", `/devices/${device.id}`, `/devices/${device.id}/timeline`, "/fleets/demo", "/enroll", "/account", "/alerts"]) {
    await page.goto(`${url}${path}`);
    await page.waitForTimeout(800);
    const shift = await page.evaluate(() => window.shift);
    assert.ok(shift < 0.02, `${path} moves by ${shift}`);
  }
});

await close();
