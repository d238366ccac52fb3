// An OpenID Connect provider that Latchkey did not write, npm's `oidc-provider`, for the tests of the package `e2e`.
//
// It prints `{"issuer"}` as a line, takes a command from each line of its standard input, answers each with a line, and
// ends when its input does. Whoever comes is signed in as the `login_hint` says, without a password or a question.
//
//   {"gateway": URL}   tells this gateway of logouts from now on
//   {"rotate": true}   signs with new keys, and publishes these alone

import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";

// It remarks, also on standard output, that it keeps everything in memory and would like a later Node.
console.info = console.warn = () => {};
const { Provider } = await import("oidc-provider");

const keys = () => ({
  keys: [
    generateKeyPairSync("rsa", { modulusLength: 2048 }),
    generateKeyPairSync("ec", { namedCurve: "P-256" }),
    generateKeyPairSync("ed25519"),
  ].map(({ privateKey }) => ({ ...privateKey.export({ format: "jwk" }), use: "sig" })),
});

// The clients of an app whose sockets the gateway serves.
const clients = (gateway) => [
  {
    client_id: "app",
    redirect_uris: ["https://app.example/callback"],
    token_endpoint_auth_method: "none",
    ...(gateway && {
      backchannel_logout_uri: `${gateway}/oidc/backchannel-logout`,
      backchannel_logout_session_required: true,
    }),
  },
  {
    client_id: "job",
    client_secret: "of no consequence",
    redirect_uris: [],
    response_types: [],
    grant_types: ["client_credentials"],
  },
];

// A resource such as https://realtime.example/ES256/sid: the audience of its tokens, what they are signed with, and
// whether they name the session.
function parts(resource) {
  const { origin, pathname } = new URL(resource);
  const [, alg, sid] = pathname.split("/");
  return { audience: origin, alg, namesSession: sid === "sid" };
}

const configuration = (jwks, gateway) => ({
  jwks,
  clients: clients(gateway),
  cookies: { keys: ["of no consequence"] },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  extraTokenClaims({ oidc }) {
    return parts(oidc.params.resource).namesSession ? { sid: oidc.entities.AuthorizationCode.sid } : {};
  },
  // Else it would ask for consent.
  async loadExistingGrant({ oidc }) {
    const { client, session, provider, params } = oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope("openid");
    grant.addResourceScope(params.resource, "rooms");
    await grant.save();
    return grant;
  },
  // Its own guard against requests to this machine stands in the dispatcher.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    backchannelLogout: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo(_, resource) {
        const { audience, alg } = parts(resource);
        return { scope: "rooms", audience, accessTokenFormat: "jwt", jwt: { sign: { alg } } };
      },
    },
  },
});

let provider;
let jwks = keys();
let gateway;

const server = createServer(async (request, response) => {
  // As providers do that rotate; the default of those who say nothing is too long for a test.
  if (request.url === "/jwks") response.setHeader("Cache-Control", "public, max-age=1");
  if (!request.url.startsWith("/interaction/")) return provider.callback()(request, response);
  const { params } = await provider.interactionDetails(request, response);
  await provider.interactionFinished(request, response, { login: { accountId: params.login_hint } });
});

server.listen(0, "127.0.0.1", async () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const restart = () => {
    provider = new Provider(issuer, configuration(jwks, gateway));
    for (const trouble of ["authorization.error", "grant.error", "backchannel.error", "server_error"])
      provider.on(trouble, (_, error) => console.error(trouble, error));
  };
  restart();
  console.log(JSON.stringify({ issuer }));
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    gateway = command.gateway ?? gateway;
    if (command.rotate) jwks = keys();
    restart();
    console.log(JSON.stringify({ done: command }));
  }
  process.exit();
});
