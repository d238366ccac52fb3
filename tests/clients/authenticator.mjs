// Authenticators of a person: an app that makes codes (RFC 6238), and Chromium's own one for passkeys.

import { createHmac } from "node:crypto";

const STEP_SECS = 30;

/** The key for an authenticator, once it is shown. */
export async function keyOf(page) {
  const key = page.getByTestId("factor-secret").filter({ hasText: /[A-Z2-7 ]{32,}/ });
  return key.innerText();
}

/** The code of a base32 key for now or for a step near it (RFC 6238). */
export function codeOf(key, steps = 0) {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...key.replace(/ /g, "")].map((letter) => letters.indexOf(letter).toString(2).padStart(5, "0")).join("");
  const secret = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 1000 / STEP_SECS) + steps));
  const mac = createHmac("sha1", secret).update(counter).digest();
  const number = mac.readUInt32BE(mac[19] & 15) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, "0");
}

/** Gives a page a device with a lock that opens by itself, and returns the session that controls the device. */
export async function addPasskeyDevice(page) {
  const control = await page.context().newCDPSession(page);
  await control.send("WebAuthn.enable");
  const options = {
    protocol: "ctap2",
    ctap2Version: "ctap2_1",
    transport: "internal",
    hasResidentKey: true,
    hasUserVerification: true,
    isUserVerified: true,
    automaticPresenceSimulation: true,
  };
  const { authenticatorId } = await control.send("WebAuthn.addVirtualAuthenticator", { options });
  return {
    /** Lets the lock of the device open, or stay shut. */
    openLock: (isUserVerified) => control.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified }),
    passkeys: async () => (await control.send("WebAuthn.getCredentials", { authenticatorId })).credentials,
  };
}
