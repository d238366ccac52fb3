// The browser's part of passkeys (Web Authentication): asks an authenticator for an answer to the issuer's options.

import { IssuerError, callIssuer, loadMetadata } from "./issuer.js";

/** Texts for the refusals of browsers, by the name of the exception (Web Authentication, sections 5.1.3 and 5.1.4). */
const REFUSALS = {
  InvalidStateError: "This device has a passkey of your account already.",
  NotAllowedError: "No passkey was used: the question of your device was closed, or took too long.",
  SecurityError: "This page cannot use the passkeys of the sign-in service.",
};

/** Resolves to whether passkeys can be used: by the browser, at the issuer, and on this page. */
export async function arePasskeysOffered() {
  // Passkeys belong to domains, and a page at an address has none.
  const isAtAddress = /^[\d.]+$|^\[/.test(location.hostname);
  if (isAtAddress || !window.PublicKeyCredential?.parseRequestOptionsFromJSON) return false;
  const { passkeys_rp_id: domain } = await loadMetadata();
  return domain !== undefined && `.${location.hostname}`.endsWith(`.${domain}`);
}

/** Makes a passkey for options of the issuer. Resolves to the credential, as JSON. */
export function createPasskey(options) {
  return ask(() => navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) }));
}

/** Asks for any passkey of this issuer. Resolves to `{state, credential}`. */
export async function getPasskey() {
  const { options, state } = await callIssuer("POST", "/login/passkey/options", { cookies: false });
  const credential = await ask(() => navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) }));
  return { state, credential };
}

async function ask(call) {
  try {
    return (await call()).toJSON();
  } catch (error) {
    throw new IssuerError(REFUSALS[error.name] ?? "Your device could not use a passkey.");
  }
}
