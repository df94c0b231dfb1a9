// The main job in a browser: sign in, write a profile, build it, release it, roll it out, and watch it arrive.
//
//   node pages.mjs URL TOKEN_FILE PLAYWRIGHT_DIR SCREENSHOT_DIR PEOPLE_DIR
//
// The script reloads no page: pages change by server-sent events only.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { close, complaints, context, look, page, rest, step, token, url } from "./opened.mjs";

const [people] = rest;
const LONG = { timeout: 240_000 };
const text = (t) => page.getByText(t).first();

await step("pages need a login", async () => {
  await page.goto(`${url}/devices`);
  assert.equal(new URL(page.url()).pathname, "/signin");
  await page.getByLabel("Administrator's token").fill("a guess");
  await page.getByRole("button", { name: "Sign in with the token" }).click();
  await text("that is not the administrator's token").waitFor();
  await look("signin");
  complaints.length = 0; // the browser reports the expected 401
  await page.getByLabel("Administrator's token").fill(token);
  await page.getByRole("button", { name: "Sign in with the token" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await text("No rollout yet").waitFor();
});

await step("a profile with mistakes shows errors at their fields, and is then saved", async () => {
  await page.getByRole("link", { name: "Profiles" }).click();
  await page.getByRole("link", { name: "New profile" }).click();
  await page.getByLabel("Name").fill("kiosk");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.locator("[name='description']").fill("A display in a hall");
  await page.locator("#section-software > summary").click();
  await page.locator("[name='software.packages']").fill("bash\nNo Such Name");
  await page.locator("#section-users > summary").click();
  await page.getByRole("button", { name: "Add user" }).click();
  await page.locator("[name='users[0].name']").fill("ops");
  await page.locator("[id='users[0]-more'] > summary").click();
  await page.locator("[name='users[0].shell']").fill("zsh");
  await page.locator("#section-services > summary").click();
  await page.getByRole("button", { name: "Add service" }).click();
  await page.locator("[name='services[0].name']").fill("hello.service");
  await page.locator("[name='services[0].state']").selectOption("enabled");
  await page.locator("[name='services[0].unit']").fill("[Service]\nExecStart=/usr/bin/true\n[Install]\nWantedBy=multi-user.target\n");
  assert.equal(await page.locator("[name='software.packages']").inputValue(), "bash\nNo Such Name", "adding an entry keeps what was typed");
  await page.getByRole("button", { name: "Save revision" }).last().click();
  await page.locator("[id='software.packages-error']").waitFor();
  assert.match(await page.locator("[id='software.packages-error']").innerText(), /software\.packages\[1\]/);
  await page.locator("[id='users[0].shell-error']").waitFor();
  await look("profile-errors");
  complaints.length = 0; // and the 422
  await page.locator("[name='software.packages']").fill("bash");
  await page.locator("[name='users[0].shell']").fill("/bin/bash");
  await page.getByRole("button", { name: "Save revision" }).last().click();
  await page.getByRole("heading", { name: "kiosk, revision 1" }).waitFor();
  await look("profile");
});

await step("it is built, and its log is shown as it grows", async () => {
  await page.getByRole("button", { name: "Build" }).click();
  await page.getByRole("heading", { name: "Build of kiosk@1" }).waitFor();
  await page.evaluate(() => { window.neverReloaded = true; });
  await page.locator("#log-growing", { hasText: "evaluating" }).waitFor(LONG);
  await look("build-running");
  await page.locator("#phase", { hasText: "built" }).waitFor(LONG);
  await page.locator("#log-whole", { hasText: "collecting" }).waitFor();
  const log = await page.getByLabel("Build log").textContent();
  // The page shows the end of the log: maintainer scripts say much before it.
  const ends = log.split("\n").filter((line) => line === "collecting");
  assert.equal(ends.length, 1, "no line of the log appears twice");
  // After the end of a build, the page no longer requests its log.
  let asked = 0;
  page.on("request", (r) => r.url().includes("/log?") && asked++);
  await page.waitForTimeout(1500);
  assert.equal(asked, 0, "the log is not requested after the end");
  assert.equal(await page.evaluate(() => window.neverReloaded), true);
});

await step("it is released after an approval by another person than the requester", async () => {
  await page.getByText("0 of 1 approvals").waitFor();
  assert.equal(await page.getByRole("button", { name: "Release" }).count(), 0);
  const id = page.url().split("/").pop();
  // The simulated build cannot be built again.
  const own = { approve: ["--not-built-here"], sign: [] };
  const person = (word, name) => execFileSync(process.env.FLEETI_PROGRAM, ["build", word, id, "--key", `${people}/${name}.key`, ...own[word]]);
  person("sign", "alice");
  await page.getByText("alice requested a signature").waitFor();
  assert.throws(() => person("approve", "alice"), /the requester may not approve the release/);
  await look("approvals");
  person("approve", "bob");
  await page.locator("main .badge", { hasText: "signing" }).first().waitFor();
  assert.equal(await page.getByText("The release key is not on this server").count(), 0);
  await page.getByRole("link", { name: "Open release kiosk@1" }).waitFor(LONG);
  await look("build");
  await page.getByRole("link", { name: "Open release kiosk@1" }).click();
  await page.getByRole("heading", { name: "Release kiosk@1" }).waitFor();
  await text("raw/kiosk_1.efi").waitFor();
  await look("release");
});

await step("it is rolled out, and one page shows fleet, device and rollout live", async () => {
  const other = await context.newPage();
  // Scripts must load in order, also when one is slow: if htmx starts without its extension, it never listens.
  await other.route("**/hx-sse-*", async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 500));
    await route.continue();
  });
  // A failed subscription or refresh is tried again.
  await other.route("**/live", (route) => route.abort(), { times: 1 });
  await other.goto(url);
  await other.locator("#devices").getByText("kiosk@0").waitFor();
  await other.evaluate(() => { window.neverReloaded = true; });
  await page.getByLabel("Waves").fill("");
  await page.getByRole("button", { name: "Plan rollout" }).click();
  await page.getByRole("heading", { name: "Plan: kiosk@1 to fleet demo" }).waitFor();
  await look("rollout-plan");
  page.once("dialog", (dialog) => dialog.accept());
  await page.getByRole("button", { name: "Start rollout" }).click();
  await page.getByRole("heading", { name: "kiosk@1 to fleet demo" }).waitFor();
  await page.locator("#phase", { hasText: "succeeded" }).waitFor(LONG);
  await look("rollout");
  await other.locator("#rollouts").getByText("1 of 1 succeeded").waitFor(LONG);
  await other.locator("#devices [data-label='Version']").getByText("kiosk@1", { exact: true }).waitFor();
  await other.locator("#devices").getByText("healthy").waitFor();
  assert.equal(await other.evaluate(() => window.neverReloaded), true);
  await other.close();
  await page.goto(url);
  await look("overview");
});

await step("changes while the browser was offline are shown when it reconnects", async () => {
  await page.goto(`${url}/profiles`);
  await page.getByText("A display in a hall").waitFor();
  await context.setOffline(true);
  await page.waitForTimeout(300);
  const saved = await fetch(`${url}/api/v1/profiles`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ schema: 1, name: "unseen", architecture: "x86_64" }),
  });
  assert.equal(saved.status, 201);
  await context.setOffline(false);
  await page.getByRole("link", { name: "unseen" }).waitFor();
  complaints.length = 0; // the browser reports that it was offline
  await page.goto(url);
});

await step("an unknown pairing code is refused, and the intermediates are shown", async () => {
  await page.goto(`${url}/devices`);
  await look("devices");
  await page.getByLabel("Pairing code").fill("bcdf ghjk");
  await page.getByRole("button", { name: "Approve device" }).click();
  await text("no device shows this code").waitFor();
  complaints.length = 0; // and the 404
  await page.goto(`${url}/trust`);
  await page.getByRole("cell", { name: "device", exact: true }).waitFor();
  assert.equal(await page.getByText("no key here").count(), 0);
  await look("trust");
});

await step("the audit log shows who did what", async () => {
  await page.getByRole("link", { name: "Audit" }).click();
  await page.getByRole("heading", { name: "Audit log" }).waitFor();
  await page.getByRole("cell", { name: "certificate.enroll" }).first().waitFor();
  await page.getByRole("cell", { name: "release.publish" }).first().waitFor();
  await look("audit");
  await page.goto(url);
});

await step("a secret of the fleet is set, named and removed, and a recovery key is shown for a reason", async () => {
  await page.locator("#devices a").last().click();
  await page.getByRole("link", { name: "demo", exact: true }).first().click();
  await page.getByLabel("Name", { exact: true }).fill("wifi.psk");
  await page.getByLabel("Secret", { exact: true }).fill("correct horse battery staple");
  await page.getByRole("button", { name: "Set secret" }).click();
  await page.locator("dt", { hasText: "wifi.psk" }).waitFor();
  assert.equal((await page.content()).includes("battery"), false, "a secret is not shown again");
  await look("fleet");
  page.once("dialog", (dialog) => dialog.accept());
  await page.getByRole("button", { name: "Remove" }).click();
  await text("None yet.").waitFor();
  await page.goto(url);
  await page.locator("#devices a").last().click();
  await page.getByLabel("Reason", { exact: true }).fill("mainboard replaced");
  await page.getByRole("button", { name: "Show recovery key" }).click();
  await page.locator("code", { hasText: /^[a-z]+(-[a-z]+)+$/ }).waitFor();
  await look("recovery-key");
  await page.goto(`${url}/audit`);
  await page.getByRole("cell", { name: "recovery-key.show" }).first().waitFor();
  await page.goto(url);
});

await step("a device is revoked, and shown as revoked", async () => {
  await page.locator("#devices a").last().click();
  await look("device");
  const id = await page.locator("h1").innerText();
  await page.getByRole("button", { name: "Revoke certificate" }).click();
  assert.equal(await page.locator(".head .badge", { hasText: "revoked" }).count(), 0, "not without its name");
  // A factory reset asks for the name as well.
  const form = page.locator("form", { has: page.getByRole("button", { name: "Revoke certificate" }) });
  await form.getByLabel(`Type ${id}`).fill(id);
  await form.getByRole("button").click();
  await page.locator(".head .badge", { hasText: "revoked" }).waitFor();
});

await step("after signing out, pages need a login", async () => {
  assert.deepEqual(complaints, [], "the browser reported errors");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL("**/signin");
  complaints.length = 0; // the page may report that its session has ended
  await page.goto(`${url}/releases`);
  assert.equal(new URL(page.url()).pathname, "/signin");
});

await close();
