// Passkeys (Web Authentication): asks an authenticator, and puts its answer into the form that sends it.
"use strict";
const toBytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const toText = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes ?? []))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

// What the server asks for. A refusal is a page, whose message is shown.
async function options(path) {
  const response = await fetch(path, { method: "POST" });
  if (response.redirected) window.location.assign(response.url);
  if (response.ok) return response.json();
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const lines = [...page.querySelectorAll("main .empty")].flatMap((part) => [...part.childNodes]);
  const said = lines.filter((line) => line.nodeName !== "A").map((line) => line.textContent.trim());
  throw new Error(said.filter(Boolean).join(": ") || `The server answered ${response.status}.`);
}

const ask = {
  async create() {
    const publicKey = await options("/account/passkeys/options");
    publicKey.challenge = toBytes(publicKey.challenge);
    publicKey.user.id = toBytes(publicKey.user.id);
    publicKey.excludeCredentials = publicKey.excludeCredentials.map((one) => ({ ...one, id: toBytes(one.id) }));
    const { response } = await navigator.credentials.create({ publicKey });
    return { client_data: response.clientDataJSON, attestation: response.attestationObject };
  },
  async get() {
    const publicKey = await options("/signin/passkey/options");
    publicKey.challenge = toBytes(publicKey.challenge);
    const { rawId, response } = await navigator.credentials.get({ publicKey });
    return {
      credential: rawId,
      user: response.userHandle,
      client_data: response.clientDataJSON,
      authenticator_data: response.authenticatorData,
      signature: response.signature,
    };
  },
};

function said(error, origin) {
  if (!window.PublicKeyCredential) return `This browser has no passkeys here: they need ${origin}.`;
  if (error.name === "SecurityError") return `Passkeys work at ${origin} only.`;
  if (error.name === "InvalidStateError") return "This authenticator has a passkey of this account already.";
  if (error.name === "NotAllowedError") return "No passkey was used.";
  return error.message;
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  const { passkey, origin } = form.dataset;
  if (!passkey) return;
  event.preventDefault();
  const status = form.querySelector("[role=status]");
  status.textContent = "Waiting for the authenticator.";
  try {
    for (const [name, bytes] of Object.entries(await ask[passkey]())) form.elements[name].value = toText(bytes);
    form.submit();
  } catch (error) {
    status.textContent = said(error, origin);
  }
});
