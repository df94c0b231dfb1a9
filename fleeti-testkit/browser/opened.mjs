// A page in Chromium for a test of the pages: the test's arguments, what the browser reports as an error, steps,
// screenshots, and accessibility.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { examiner } from "./axe.mjs";

const [server, tokenFile, playwright, screenshots, ...others] = process.argv.slice(2);
const { chromium } = createRequire(`${playwright}/`)("playwright-core");

export const url = server;
export const token = readFileSync(tokenFile, "utf8").trim();
/** Arguments of the test itself. */
export const rest = others;
/** Errors that the browser reported. */
export const complaints = [];

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
export const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
export const page = await context.newPage();
page.setDefaultTimeout(20_000);
page.on("console", (m) => m.type() === "error" && complaints.push(`${page.url()}: ${m.text()}`));
page.on("pageerror", (e) => complaints.push(`${page.url()}: ${e}`));

const axe = examiner(playwright);

/** Asks the API with the administrator's token. */
export async function ask(method, path, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const response = await fetch(`${url}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  return { ok: response.ok, status: response.status, body: response.status === 204 ? undefined : await response.json() };
}

/** What a condition becomes within a minute. */
export async function soon(what, find) {
  for (let i = 0; i < 200; i += 1) {
    const found = await find();
    if (found) return found;
    await page.waitForTimeout(300);
  }
  throw new Error(`not within a minute: ${what}`);
}

/** Runs a part of the test, and prints how long it took. */
export async function step(name, work) {
  const started = Date.now();
  await work();
  console.log(`    ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}

/**
 * Takes screenshots of the whole page: light, dark, and on a phone. The page must not be wider than its window, and axe
 * looks at each. Playwright hides the caret with an inline style, which the policy of the pages refuses. A page that shows
 * changes may load itself again meanwhile, and is then looked at again.
 */
export async function look(name, attempts = 3) {
  try {
    await lookOnce(name);
  } catch (error) {
    if (attempts === 1 || !String(error).includes("because of a navigation")) throw error;
    await page.waitForLoadState();
    await look(name, attempts - 1);
  }
}

async function lookOnce(name) {
  for (const [kind, colorScheme, width, height] of [["light", "light", 1280, 900], ["dark", "dark", 1280, 900], ["phone", "light", 390, 844]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(overflow <= 0, `${name} is ${overflow} pixels too wide in ${kind}`);
    await axe.examine(page, `${name}, ${kind}`);
    await page.screenshot({ path: `${screenshots}/${name}-${kind}.png`, fullPage: true, caret: "initial" });
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 900 });
}

/** Ends the test, which fails if the browser or axe reported anything. */
export async function close() {
  console.log(`    axe looked at ${axe.looked()} pages`);
  assert.deepEqual(axe.findings(), [], "axe found something");
  assert.deepEqual(complaints, [], "the browser reported errors");
  await browser.close();
}
