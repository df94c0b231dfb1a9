// A person adds a passkey to the own account and signs in with it, with Chromium's virtual authenticator.
//
//   node passkeys.mjs URL TOKEN_FILE PLAYWRIGHT_DIR SCREENSHOT_DIR
//
// The server's public URL has the name localhost: an address is no name that passkeys can be tied to.
import assert from "node:assert/strict";
import { close, complaints, context, look, page, step, token, url } from "./opened.mjs";

const site = url.replace("127.0.0.1", "localhost");
const button = (name) => page.getByRole("button", { name });
const overview = () => page.getByRole("heading", { name: "Overview" }).waitFor();

const devtools = await context.newCDPSession(page);
await devtools.send("WebAuthn.enable");
const { authenticatorId } = await devtools.send("WebAuthn.addVirtualAuthenticator", {
  options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
});
const credentials = async () => (await devtools.send("WebAuthn.getCredentials", { authenticatorId })).credentials;

await step("a person joins by a link and adds a passkey", async () => {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const body = JSON.stringify({ name: "carol", kind: "person", grants: [{ role: "viewer" }] });
  const added = await fetch(`${url}/api/v1/accounts`, { method: "POST", headers, body });
  assert.equal(added.status, 201);
  const { link } = await added.json();
  await page.goto(`${site}${link.path}`);
  await page.getByLabel("Password").fill("correct horse battery");
  await button("Set password and sign in").click();
  await overview();
  await page.goto(`${site}/account`);
  await page.getByLabel("Name of the passkey").fill("laptop");
  await button("Add passkey").click();
  await button("Remove passkey laptop").waitFor();
  await look("passkeys");
  const [made, ...more] = await credentials();
  assert.deepEqual([made.rpId, made.isResidentCredential, more.length], ["localhost", true, 0]);
});

await step("an authenticator has one passkey of an account", async () => {
  await page.goto(`${site}/account`);
  await page.getByLabel("Name of the passkey").fill("again");
  await button("Add passkey").click();
  await page.getByText("This authenticator has a passkey of this account already.").waitFor();
  assert.equal((await credentials()).length, 1);
});

await step("the passkey signs in, without a name or a password", async () => {
  await button("Sign out").click();
  await page.waitForURL("**/signin");
  await look("signin-passkey");
  await button("Sign in with a passkey").click();
  await overview();
  await page.goto(`${site}/account`);
  await page.getByRole("heading", { name: "Settings of carol" }).waitFor();
  assert.equal(await page.getByText("used never").count(), 0);
  await button("Sign out").click();
  await page.waitForURL("**/signin");
});

await step("it needs a verified user, and the name of the server", async () => {
  await devtools.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: false });
  await button("Sign in with a passkey").click();
  await page.getByText("No passkey was used.").waitFor();
  await devtools.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: true });
  await page.goto(`${url}/signin`);
  await button("Sign in with a passkey").click();
  await page.getByText(`Passkeys work at ${site} only.`).waitFor();
});

await step("a removed passkey is refused", async () => {
  await page.goto(`${site}/signin`);
  await button("Sign in with a passkey").click();
  await overview();
  await page.goto(`${site}/account`);
  await button("Remove passkey laptop").click();
  // The session that it began has ended with it.
  await page.waitForURL("**/signin");
  await button("Sign in with a passkey").click();
  await page.getByText("no account accepts this passkey here").waitFor();
  complaints.length = 0; // the browser reports the expected 401
});

await close();
