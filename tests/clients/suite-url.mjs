// Leads the official protocol suites, whose URL is a constant, to another server, and adds a token to
// each request: `node --import ./suite-url.mjs`.

const { CONFORMANCE_URL, CONFORMANCE_TOKEN } = process.env;

/** The URL of the suites. */
const THEIRS = /^(http|ws):\/\/localhost:3000/;

function lead(address) {
  const url = new URL(address.replace(THEIRS, (_, scheme) => CONFORMANCE_URL.replace(/^http/, scheme)));
  if (CONFORMANCE_TOKEN) url.searchParams.set("token", CONFORMANCE_TOKEN);
  return url.href;
}

/** Defines a global that the suites set by themselves; what they read is `wrap` of what they set. */
function wrapGlobal(name, wrap) {
  let wrapped;
  Object.defineProperty(globalThis, name, { get: () => wrapped, set: (theirs) => (wrapped = wrap(theirs)) });
}

wrapGlobal("fetch", (fetch) => (address, options) => fetch(lead(address), options));
wrapGlobal("WebSocket", (WebSocket) => {
  return class extends WebSocket {
    constructor(address) {
      super(lead(address));
    }
  };
});
