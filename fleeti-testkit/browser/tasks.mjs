// Tasks of an operator, each with at most three clicks and five actions, counted from the overview.
//
//   node tasks.mjs URL TOKEN_FILE PLAYWRIGHT_DIR SCREENSHOT_DIR
//
// A click is a click, or the answer to a question of the browser. An action is a click, a field that is filled or chosen,
// or a key. Tasks that the pages cannot do yet are named at the end.
import assert from "node:assert/strict";
import { close, complaints, context, look, page, step, token, url } from "./opened.mjs";

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
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const response = await fetch(`${url}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.clone().text()}`);
  return response.status === 204 ? undefined : response.json();
}

await page.goto(`${url}/signin`);
await page.getByLabel("Administrator's token").fill(token);
await button("Sign in with the token").click();
await page.getByRole("heading", { name: "Overview" }).waitFor();
let devices = [];
for (let i = 0; i < 100 && devices.length === 0; i += 1) {
  devices = (await api("GET", "/devices?limit=500")).filter((found) => !found.revoked && found.boot);
  if (devices.length === 0) await page.waitForTimeout(300);
}
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

const idle = page.locator("#needs").getByRole("link", { name: /^Plan rollout/ });
await page.goto(url);
await look("overview-needs");
if (await idle.count() > 0) {
  await task("start an update of a fleet", async () => {
    await act.click(idle);
    await act.agree(button("Start rollout"));
  }, async () => {
    await page.locator("#phase").waitFor();
  });

  await task("stop the rollout of a fleet", async () => {
    await act.agree(page.locator("#rollouts").getByRole("button", { name: /^Pause/ }));
  }, async () => {
    await page.locator("#phase", { hasText: /paus/ }).waitFor();
    await page.goto(url);
    await page.locator("#needs").getByText("is paused").waitFor();
    await look("overview-paused");
  });
} else {
  console.log("      no release is idle: starting and stopping a rollout were not tried");
}

if (devices.length > 1) {
  const [, , ...rest] = devices;
  const [old, spare] = [devices.at(-1), rest.length > 1 ? devices.at(-2) : devices[0]];
  await task("replace a broken device", async () => {
    await act.press("/");
    await act.fill(page.locator("#find"), old.id);
    await act.press("Enter");
    await page.waitForURL(`**/devices/${old.id}`);
    await act.fill(page.getByLabel("Id of the new device"), spare.id);
    await act.click(button("Replace device"));
  }, async () => {
    await page.waitForURL(`**/devices/${spare.id}`);
  });
}

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

console.log("      not on the pages yet: put one device back, stop everything at once, send a support bundle, export the evidence of a release");
assert.deepEqual(complaints, [], "the browser reported errors");
await close();
