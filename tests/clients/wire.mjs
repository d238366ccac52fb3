// A client that reads and writes the packets of the protocols by itself.

import { WebSocket } from "ws";

import { DEADLINE_MS, beforeDeadline, required } from "./support.mjs";

/** The address of a path on the server under test, with the parameters of Engine.IO 4 and a token if there is one. */
export function address(path, parameters) {
  const url = new URL(path, required("CONFORMANCE_URL"));
  const { CONFORMANCE_TOKEN: token } = process.env;
  for (const [name, value] of Object.entries({ EIO: "4", ...(token && { token }), ...parameters })) {
    if (value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

/** Separator of the packets in a payload: section "Packet encoding, HTTP long-polling". */
export const SEPARATOR = "\x1e";

/** A session by HTTP long-polling, from its handshake on. */
export class Polling {
  static async open(path) {
    const answer = await send("GET", path, { transport: "polling" });
    if (answer.status !== 200) throw new Error(`handshake: HTTP ${answer.status} ${answer.text}`);
    return new Polling(path, JSON.parse(answer.text.slice(1)));
  }

  constructor(path, handshake) {
    this.path = path;
    this.handshake = handshake;
    this.parameters = { transport: "polling", sid: handshake.sid };
  }

  get() {
    return send("GET", this.path, this.parameters);
  }

  post(body) {
    return send("POST", this.path, this.parameters, body);
  }

  /** Opens a WebSocket for this session. */
  webSocket(t) {
    return Wire.open(t, this.path, { sid: this.handshake.sid });
  }

  /** Polls until there is a packet that is no ping; answers the pings, and leaves them out. */
  async packets() {
    for (;;) {
      const { status, text } = await this.get();
      const packets = text.split(SEPARATOR);
      const others = packets.filter((packet) => packet !== "2");
      if (status !== 200 || others.length === packets.length) return { status, text };
      await this.post("3");
      if (others.length > 0) return { status, text: others.join(SEPARATOR) };
    }
  }
}

/** Sends a request. Answers its status and its text. */
export async function send(method, path, parameters, body) {
  const answer = await fetch(address(path, parameters), { method, body, signal: AbortSignal.timeout(DEADLINE_MS) });
  return { status: answer.status, text: await answer.text() };
}

/** A WebSocket that keeps what it hears until a test asks for it. */
export class Wire {
  #socket;
  #heard = [];
  #waiting;
  #end = { code: undefined };

  /** Opens a WebSocket, which is closed with its test; rejects with the status of a refusal. */
  static async open(t, path, parameters) {
    const url = address(path, { transport: "websocket", ...parameters });
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    const wire = new Wire(socket);
    t.after(() => socket.terminate());
    await beforeDeadline("WebSocket", (resolve, reject) => {
      socket.once("open", resolve);
      socket.once("unexpected-response", (_, response) => reject(new Error(`HTTP ${response.statusCode}`)));
    });
    return wire;
  }

  constructor(socket) {
    this.#socket = socket;
    const push = (item) => {
      this.#heard.push(item);
      this.#waiting?.();
    };
    socket.on("message", (data, isBinary) => push(isBinary ? [...data] : data.toString()));
    socket.on("close", (code) => {
      this.#end.code = code;
      push(this.#end);
    });
    // The end of the connection tells as much.
    socket.on("error", () => {});
  }

  send(packet) {
    this.#socket.send(Array.isArray(packet) ? Uint8Array.from(packet) : packet);
  }

  /** Waits for the next message, a text or an array of bytes, or the end. */
  async #next() {
    if (this.#heard.length === 0) {
      await beforeDeadline("message", (resolve) => (this.#waiting = resolve));
      this.#waiting = undefined;
    }
    return this.#heard.shift();
  }

  /** Waits for the next message, pings included. */
  async message() {
    const item = await this.#next();
    if (item === this.#end) throw new Error(`closed with ${item.code}`);
    return item;
  }

  /** Waits for the next message that is no ping; answers the pings before it. */
  async packet() {
    for (;;) {
      const message = await this.message();
      if (message !== "2") return message;
      this.send("3");
    }
  }

  /** Waits for the end, and passes over the messages before it; pings are answered if `answersPings`. */
  async end({ answersPings = true } = {}) {
    for (;;) {
      const item = await this.#next();
      if (item === this.#end) return item.code;
      if (item === "2" && answersPings) this.send("3");
    }
  }
}
