// The path of a newcomer through the editor of profiles: a web server with a user, a port and a health check, from a
// template. Counts actions (clicks and fields typed) and shows each step.
//
//   node editor.mjs URL TOKEN_FILE PLAYWRIGHT_DIR SCREENSHOT_DIR
import assert from "node:assert/strict";
import { close, look as screenshots, page, step, token, url } from "./opened.mjs";

const ACTIONS_MAX = 25;
const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEpv8Wr0pUM7r3lqwX2mC8iTq3VJ3yqTzXz0W1Yz3o9d ada@example.com";

const look = (name) => screenshots(`editor-${name}`);
// Layout that moves by itself, not within half a second of an input.
await page.addInitScript(() => {
  window.shifts = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
});

let actions = 0;
const click = async (locator) => {
  actions += 1;
  await locator.click();
};
const type = async (locator, text) => {
  actions += 1;
  await locator.fill(text);
};
const button = (name) => page.getByRole("button", { name, exact: true });
const field = (name) => page.locator(`[name='${name}']`);
const checked = () => page.waitForResponse((r) => r.url().endsWith("/profiles/check"));

await page.goto(`${url}/signin`);
await page.getByLabel("Administrator's token").fill(token);
await button("Sign in with the token").click();
await page.getByRole("heading", { name: "Overview" }).waitFor();

await step("a new profile starts from a template", async () => {
  await click(page.getByRole("link", { name: "Profiles" }));
  await click(page.getByRole("link", { name: "New profile" }));
  await type(page.getByLabel("Name"), "shop");
  await click(page.getByText("web-server"));
  await look("1-start");
  await click(button("Continue"));
  await page.getByRole("heading", { name: "Profile shop" }).waitFor();
  await page.getByText("from services/web").first().waitFor();
  await look("2-template");
});

await step("a user with an SSH key", async () => {
  await click(button("Add user"));
  await field("users[0].name").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.name), "users[0].name", "the new entry has the focus");
  await type(field("users[0].name"), "ada");
  await type(field("users[0].ssh_keys"), KEY);
  await page.locator("#checked", { hasText: "Ready to save" }).waitFor();
  await look("3-user");
});

await step("a port in the firewall", async () => {
  await click(button("Add firewall rule"));
  await type(field("network.firewall.rules[0].name"), "app");
  const answer = checked();
  await page.evaluate(() => { window.shifts = 0; });
  await type(field("network.firewall.rules[0].ports"), "84433");
  await answer;
  // Checked while typing: the error is at its field, without a click.
  await page.locator("[id='network.firewall.rules[0].ports-error'] .answer").waitFor();
  assert.ok((await page.evaluate(() => window.shifts)) < 0.02, "the layout moved by itself");
  await look("4-port-wrong");
  await type(field("network.firewall.rules[0].ports"), "8443");
  await page.locator("[id='network.firewall.rules[0].ports-error'] .answer").waitFor({ state: "detached" });
});

await step("a health check, and what saving changes", async () => {
  await click(button("Add health check"));
  await type(field("health_checks[0].name"), "the shop answers");
  await type(field("health_checks[0].http"), "http://127.0.0.1/");
  await page.locator("#checked", { hasText: "8443/tcp" }).waitFor();
  await page.locator("#checked", { hasText: "Ready to save as revision 1" }).waitFor();
  await look("5-health");
});

await step("it is saved", async () => {
  await click(button("Save revision").last());
  await page.getByRole("heading", { name: "shop, revision 1" }).waitFor();
  await look("6-saved");
  assert.ok(actions <= ACTIONS_MAX, `${actions} actions, at most ${ACTIONS_MAX}`);
  console.log(`    ${actions} actions`);
});

await step("an inherited value is overridden and inherited again", async () => {
  await page.getByRole("link", { name: "Edit as a new revision" }).click();
  await button("Override attempts maximum").click();
  const own = field("security.ssh.attempts_max");
  await own.waitFor();
  assert.equal(await own.inputValue(), "4", "the inherited value is taken over");
  await own.fill("3");
  await page.locator("#checked", { hasText: "security.ssh.attempts_max" }).waitFor();
  await page.locator("#checked", { hasText: "PCRs 4, 11 change" }).waitFor();
  await look("7-changed");
  await button("Use inherited attempts maximum").click();
  await own.waitFor({ state: "detached" });
  await page.locator("#checked", { hasText: "No changes" }).waitFor();
});

await step("a near match replaces what was typed", async () => {
  await field("identity.time_zone").fill("Europe/Berln");
  await page.locator("[id='identity.time_zone-error']").getByRole("button", { name: "Use Europe/Berlin" }).click();
  await page.waitForFunction(() => document.querySelector("[name='identity.time_zone']")?.value === "Europe/Berlin");
  await field("identity.time_zone").fill("");
  await page.locator("#checked", { hasText: "No changes" }).waitFor();
});

await step("the text says what the form says, and back", async () => {
  await field("description").fill("A shop");
  await button("Text").click();
  const text = page.getByLabel("Document");
  assert.match(await text.inputValue(), /description = "A shop"/);
  assert.match(await text.inputValue(), /"template\/web-server"/);
  await text.fill(`${await text.inputValue()}\nnonsense = 1\n`);
  await page.locator("#checked", { hasText: "unknown field" }).waitFor();
  await look("8-text");
  await text.evaluate((area) => area.setAttribute("data-old", ""));
  await button("Form").click();
  await page.waitForFunction(() => !document.querySelector("[data-old]"));
  await text.fill((await text.inputValue()).replace("\nnonsense = 1\n", ""));
  await page.locator("#checked", { hasText: "1 change" }).waitFor();
  await button("Form").click();
  assert.equal(await field("description").inputValue(), "A shop");
});

await step("entries are moved by the keyboard, and sets are chosen", async () => {
  await button("Add firewall rule").click();
  await field("network.firewall.rules[1].name").fill("metrics");
  await field("network.firewall.rules[1].ports").fill("9100");
  await button("Move Firewall rule 2 up").focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("[name='network.firewall.rules[0].name']")?.value === "metrics");
  await page.getByText("Add a template, set or baseline").click();
  await page.getByLabel("baseline/strict").click();
  await page.locator(".given", { hasText: "baseline/strict" }).first().waitFor();
  await page.locator("#checked", { hasText: "auditd" }).waitFor();
  await look("9-sets");
});

await step("two revisions are compared", async () => {
  await button("Save revision").last().click();
  await page.getByRole("heading", { name: "shop, revision 2" }).waitFor();
  await page.getByRole("link", { name: "since revision 1" }).first().click();
  await page.getByRole("heading", { name: "shop: changes from revision 1 to 2" }).waitFor();
  await page.getByText("network.firewall.rules[metrics]").first().waitFor();
  await look("10-compared");
});

await close();
