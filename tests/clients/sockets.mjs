// The clients from npm, started and waited for.

import io4 from "socket.io-client";
import io2 from "socket.io-client-2";
import io3 from "socket.io-client-3";

import { beforeDeadline } from "./support.mjs";

export const GENERATIONS = { 2: io2, 3: io3, 4: io4 };

/** Starts a client that is closed with its test. A refusal shall end it, so it does not try again by itself. */
export function start(t, generation, url, options = {}) {
  const socket = GENERATIONS[generation].connect(url, { forceNew: true, reconnection: false, ...options });
  t.after(() => socket.close());
  return socket;
}

/** Waits until the client is in; a refusal says why instead of running into the deadline. */
export async function connected(socket) {
  if (socket.connected) return socket;
  await beforeDeadline("connection", (resolve, reject) => {
    socket.once("connect", resolve);
    for (const event of ["connect_error", "error"]) {
      socket.once(event, (error) => reject(new Error(`refused: ${error.message ?? error}`)));
    }
  });
  return socket;
}
