// Providers whose tokens have the shapes of the ones in docs/providers.md, for the tests of the package `e2e`.
//
// The program prints `{"base": URL}` as a line and serves until its standard input ends. A provider at https://HOST/PATH stands at
// BASE/HOST/PATH: its metadata, its keys, and its name in `iss`. `GET /tokens` answers, for each provider by its name,
// tokens that are to be admitted and tokens that are to be refused with a message.

import { createHmac, createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { createServer } from "node:http";

const API = "https://realtime.example.org";
const APP = "K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja";
const TENANT = "3fa85f64-5717-4562-b3fc-2c963f66afa6";
const OTHER_TENANT = "5b9d3c2e-41f7-4f0c-9b0e-6d1a2c7e8f90";
const UNLISTED_TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad";
const ENTRA_API = "6e74172b-be56-4843-9ff4-e66a39bb12e3";

let base;
const now = Math.floor(Date.now() / 1000);
const base64url = (text) => Buffer.from(text).toString("base64url");

const KINDS = {
  RS256: () => generateKeyPairSync("rsa", { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync("ec", { namedCurve: "P-256" }),
  ES384: () => generateKeyPairSync("ec", { namedCurve: "P-384" }),
};

const newKey = (alg, kid) => ({ alg, kid, ...KINDS[alg]() });

// Keys that nobody publishes.
const nobody = Object.fromEntries(Object.keys(KINDS).map((alg) => [alg, newKey(alg, "nobody")]));

function signature(alg, key, text) {
  if (alg === "HS256") return createHmac("sha256", key).update(text).digest("base64url");
  const hash = alg === "ES384" ? "sha384" : "sha256";
  return sign(hash, Buffer.from(text), { key, dsaEncoding: "ieee-p1363" }).toString("base64url");
}

/** A token with this header and these claims; an undefined member is left out. */
function token(key, header, claims, changes = {}) {
  const head = { alg: key.alg, kid: key.kid, ...header, ...changes.header };
  const body = { ...claims, ...changes.claims };
  const text = `${base64url(JSON.stringify(head))}.${base64url(JSON.stringify(body))}`;
  const signed = head.alg === "none" ? "" : signature(head.alg, changes.key ?? key.privateKey, text);
  return `${text}.${signed}`;
}

/** Claims of every provider's tokens. */
const usual = { sub: "5f7c8ec7c33c6c004bbafe82", iat: now, exp: now + 900 };

// For each provider: where it is; what it signs with; the header and the claims of its access tokens; what makes an ID
// token of one; more tokens to admit; and more to refuse, each by what it changes and the message.
const providers = () => ({
  Auth0: {
    issuer: "example.eu.auth0.com/",
    header: { typ: "JWT" },
    claims: { aud: [API, `${base}/example.eu.auth0.com/userinfo`], azp: APP, scope: "openid profile", jti: null, sid: "" },
    idToken: { aud: APP, azp: undefined, scope: undefined, nonce: "n", sid: "s" },
    idMessage: "jwt audience invalid",
  },
  Keycloak: {
    issuer: "keycloak.example.org/realms/example",
    header: { typ: "JWT" },
    claims: {
      aud: ["realtime", "account"], typ: "Bearer", azp: "app", sid: "s", acr: "1", jti: "onrtac:1", name: "Alice",
      scope: "openid email profile", realm_access: { roles: ["user"] }, email_verified: false,
    },
    idToken: { aud: "app", typ: "ID", at_hash: "h", scope: undefined },
    idMessage: "jwt audience invalid",
    admitted: { "a lightweight token": { claims: { name: undefined, realm_access: undefined, email_verified: undefined, acr: undefined } } },
    refused: {
      "a token for accounts alone": [{ claims: { aud: "account" } }, "jwt audience invalid"],
      "a token of nobody": [{ claims: { sub: undefined } }, "jwt claims invalid"],
      "a refresh token": [{ claims: { typ: "Refresh" } }, "jwt claims invalid"],
    },
  },
  Okta: {
    issuer: "example.okta.com/oauth2/default",
    header: {},
    claims: { ver: 1, jti: "AT.1", aud: "api://default", cid: "0oa1example", uid: "00u1", scp: ["openid", "publish:news"], auth_time: now },
    idToken: { aud: "0oa1example", cid: undefined, scp: undefined, at_hash: "h", amr: ["pwd"] },
    idMessage: "jwt audience invalid",
    refused: { "scopes that are no texts": [{ claims: { scp: [7] } }, "jwt claims invalid"] },
  },
  "Microsoft Entra ID, version 1": {
    issuer: `sts.windows.net/${TENANT}/`,
    jwks: "login.microsoftonline.com/common/discovery/keys",
    header: { typ: "JWT", x5t: "1" },
    claims: { aud: "api://realtime", appid: APP, appidacr: "0", oid: "o", scp: "rooms", tid: TENANT, unique_name: "a", nbf: now, ver: "1.0", rh: "0." },
    idToken: { aud: APP, appid: undefined, scp: undefined, nonce: "n" },
    idMessage: "jwt audience invalid",
    admitted: { "a token of an application": { claims: { scp: undefined, unique_name: undefined, roles: ["publish"], idtyp: "app" } } },
    refused: { "a token for Microsoft Graph": [{ claims: { aud: "00000003-0000-0000-c000-000000000000" } }, "jwt audience invalid"] },
    tampered: { "what Graph signs, with another nonce in the header": [{ nonce: "n" }, "invalid signature"] },
  },
  "Microsoft Entra ID, version 2": {
    issuer: `login.microsoftonline.com/${TENANT}/v2.0`,
    header: { typ: "JWT" },
    claims: { aud: ENTRA_API, azp: APP, azpacr: "0", name: "Alice", oid: "o", preferred_username: "a", scp: "rooms", tid: TENANT, nbf: now, ver: "2.0" },
    idToken: { aud: APP, azp: undefined, scp: undefined, nonce: "n" },
    idMessage: "jwt audience invalid",
    admitted: { "a token of an application": { claims: { scp: undefined, name: undefined, preferred_username: undefined, roles: ["publish"] } } },
  },
  "Microsoft Entra ID, many tenants": {
    issuer: `login.microsoftonline.com/${OTHER_TENANT}/v2.0`,
    jwks: "login.microsoftonline.com/organizations/discovery/v2.0/keys",
    keyIssuers: [`login.microsoftonline.com/{tenantid}/v2.0`, `login.microsoftonline.com/${UNLISTED_TENANT}/v2.0`],
    header: { typ: "JWT" },
    claims: { aud: ENTRA_API, azp: APP, name: "Alice", scp: "rooms", tid: OTHER_TENANT, nbf: now, ver: "2.0" },
    idToken: { aud: APP, azp: undefined, scp: undefined },
    idMessage: "jwt audience invalid",
    refused: {
      "a tenant that is not listed": [
        { claims: { iss: `${base}/login.microsoftonline.com/${UNLISTED_TENANT}/v2.0`, tid: UNLISTED_TENANT } }, "jwt issuer invalid",
      ],
      "one tenant in iss and another in tid": [{ claims: { tid: TENANT } }, "jwt claims invalid"],
      "the key of another tenant": [{ keyOf: 1 }, "jwt key unknown"],
    },
  },
  "Amazon Cognito": {
    issuer: "cognito-idp.eu-central-1.amazonaws.com/eu-central-1_EXAMPLE",
    header: {},
    claims: { version: 2, client_id: "7tu5example", token_use: "access", scope: "aws.cognito.signin.user.admin", auth_time: now, jti: "j", username: "alice" },
    audienceClaim: "client_id",
    idToken: { aud: "7tu5example", client_id: undefined, token_use: "id", scope: undefined, at_hash: "h" },
    idMessage: "jwt audience invalid",
    refused: { "another use": [{ claims: { token_use: "id" } }, "jwt claims invalid"] },
  },
  Firebase: {
    issuer: "securetoken.google.com/example-project",
    header: { typ: "JWT" },
    claims: { aud: "example-project", auth_time: now, user_id: usual.sub, name: "Alice", firebase: { identities: {}, sign_in_provider: "password" } },
    idToken: { iss: "https://session.firebase.google.com/example-project" },
    idMessage: "jwt issuer invalid",
    refused: {
      "an ID token for several clients": [{ claims: { aud: ["example-project", "another"] } }, "jwt claims invalid"],
      "an ID token that another client was given": [{ claims: { azp: "another" } }, "jwt claims invalid"],
    },
  },
  Supabase: {
    issuer: "example.supabase.co/auth/v1",
    jwks: "example.supabase.co/auth/v1/.well-known/jwks.json",
    alg: "ES256",
    header: { typ: "JWT" },
    claims: {
      aud: "authenticated", role: "authenticated", session_id: "s", aal: "aal1", amr: [{ method: "password", timestamp: now }],
      email: "alice@example.org", phone: "", is_anonymous: false, app_metadata: {}, user_metadata: {},
    },
    idToken: { role: undefined },
    idMessage: "jwt claims invalid",
    refused: { "the key of every page": [{ claims: { role: "anon" } }, "jwt claims invalid"] },
  },
  Clerk: {
    issuer: "clerk.example.org",
    header: { typ: "JWT", cat: "cl_B7d4PD111AAA" },
    claims: { aud: "realtime", azp: "https://app.example.org", exp: now + 60, nbf: now - 10, sid: "sess_1", sts: "active", fva: [0, -1], v: 2 },
    idToken: { aud: undefined },
    idMessage: "jwt audience invalid",
    refused: { "a token that was given to no page": [{ claims: { azp: undefined } }, "jwt claims invalid"] },
  },
  Logto: {
    issuer: "logto.example.org/oidc",
    alg: "ES384",
    header: { typ: "at+jwt" },
    claims: { aud: API, client_id: "app", scope: "publish:news", jti: "j" },
    idToken: { aud: "app", client_id: undefined, scope: undefined, at_hash: "h" },
    idHeader: { typ: "JWT" },
    idMessage: "jwt type invalid",
  },
  Hydra: {
    issuer: "hydra.example.org",
    moved: true,
    header: { typ: "JWT" },
    claims: { aud: [API], client_id: "app", ext: {}, jti: "j", nbf: now, scp: ["openid", "rooms"], exp: now + 900.5, iat: now + 0.25 },
    idToken: { aud: ["app"], client_id: undefined, scp: undefined, at_hash: "h", sid: "s" },
    idMessage: "jwt audience invalid",
  },
  authentik: {
    issuer: "authentik.example.org/application/o/realtime/",
    header: { typ: "JWT" },
    claims: { aud: "authentikApp", azp: "authentikApp", uid: "u", auth_time: now, acr: "goauthentik.io/providers/oauth2/default", nonce: "n", sid: "s" },
    idToken: { azp: undefined, uid: undefined },
    idMessage: "jwt claims invalid",
  },
});

/** The issuer's tokens: the ones to admit, and its nine twins and more, each of which differs in one thing. */
function tokensOf({ issuer, alg = "RS256", header, claims, keys, ...one }) {
  const iss = `${base}/${issuer}`;
  const good = { iss, ...usual, ...claims };
  const [key] = keys;
  const make = (changes = {}) => token(changes.keyOf ? keys[changes.keyOf] : key, header, good, changes);
  const [head, , mark] = make().split(".");
  const pem = createPublicKey(key.privateKey).export({ format: "pem", type: "spki" });
  const parts = { other: base64url(JSON.stringify({ ...good, sub: "another" })) };
  const twins = {
    "signed by nobody's key": [make({ key: nobody[alg].privateKey }), "invalid signature"],
    "another payload under the signature": [`${head}.${parts.other}.${mark}`, "invalid signature"],
    "without a signature": [make({ header: { alg: "none" } }), "jwt signature is required"],
    "signed with the public key as a secret": [make({ header: { alg: "HS256" }, key: pem }), "invalid algorithm"],
    "of another issuer": [make({ claims: { iss: `${base}/evil.example` } }), "jwt issuer invalid"],
    "for another audience": [make({ claims: { [one.audienceClaim ?? "aud"]: "another" } }), "jwt audience invalid"],
    "at its end": [make({ claims: { iat: now - 600, exp: now - 1 } }), "jwt expired"],
    "under the id of no key": [make({ header: { kid: "another" } }), "jwt key unknown"],
    "another kind of token": [make({ claims: one.idToken, header: one.idHeader }), one.idMessage],
  };
  for (const [what, [changes, message]] of Object.entries(one.refused ?? {})) twins[what] = [make(changes), message];
  for (const [what, [changed, message]] of Object.entries(one.tampered ?? {})) {
    const [, body] = make().split(".");
    const head = base64url(JSON.stringify({ alg: key.alg, kid: key.kid, ...header, ...changed }));
    twins[what] = [`${head}.${body}.${mark}`, message];
  }
  const admitted = Object.entries(one.admitted ?? {}).map(([what, changes]) => ({ what, token: make(changes) }));
  return {
    admitted: [{ what: "an access token", token: make() }, ...admitted],
    refused: Object.entries(twins).map(([what, [token, message]]) => ({ what, token, message })),
  };
}

/** The documents of a provider by their paths below the base. */
function documentsOf({ issuer, jwks, keys, keyIssuers, moved }) {
  const place = issuer.replace(/\/$/, "");
  const keysAt = jwks ?? `${place}/keys`;
  const metadata = `${place}/.well-known/openid-configuration`;
  const published = keys.map(({ alg, kid, publicKey }, index) => ({
    ...publicKey.export({ format: "jwk" }),
    kid,
    use: "sig",
    // Microsoft writes the issuer, and no algorithm.
    ...(keyIssuers ? { issuer: `${base}/${keyIssuers[index]}` } : { alg }),
  }));
  const page = { issuer: `${base}/${issuer}`, jwks_uri: `${base}/${keysAt}` };
  return {
    [keysAt]: { keys: [...published, { kty: "RSA", kid: "enc", use: "enc", n: "AQ", e: "AQAB" }] },
    ...(moved ? { [metadata]: `/${metadata}/`, [`${metadata}/`]: page } : { [metadata]: page }),
  };
}

const documents = {};
const tokens = {};

const server = createServer((request, response) => {
  // As a firewall in front of a key server does.
  if (!request.headers["user-agent"] && request.url !== "/tokens") return response.writeHead(403).end();
  const page = request.url === "/tokens" ? tokens : documents[request.url.slice(1)];
  if (typeof page === "string") return response.writeHead(301, { Location: page }).end();
  response.writeHead(page ? 200 : 404, { "Content-Type": "application/json" });
  response.end(JSON.stringify(page ?? {}));
});

server.listen(0, "127.0.0.1", () => {
  base = `http://127.0.0.1:${server.address().port}`;
  for (const [name, provider] of Object.entries(providers())) {
    const count = provider.keyIssuers?.length ?? 1;
    const keys = Array.from({ length: count }, (_, index) => newKey(provider.alg ?? "RS256", `${name} ${index}`));
    Object.assign(documents, documentsOf({ ...provider, keys }));
    tokens[name] = tokensOf({ ...provider, keys });
  }
  console.log(JSON.stringify({ base }));
  process.stdin.resume().on("end", () => process.exit());
});
