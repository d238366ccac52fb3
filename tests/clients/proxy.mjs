// A reverse proxy that takes a prefix away from the path, as nginx does with a slash at the end of `proxy_pass`.

import { createServer, request } from "node:http";
import { once } from "node:events";

/** Starts a proxy before `target` that ends with its test. Resolves to its URL, without the prefix. */
export async function startProxy(t, prefix, target) {
  const { hostname, port } = new URL(target);
  const forward = ({ method, url, headers }, answered) =>
    request({ hostname, port, method, path: url.slice(prefix.length), headers }, answered);
  const server = createServer((incoming, response) => {
    if (!incoming.url.startsWith(`${prefix}/`)) return response.writeHead(404).end();
    const outgoing = forward(incoming, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    outgoing.on("error", () => response.destroy());
    incoming.pipe(outgoing);
  });
  const sockets = new Set();
  server.on("connection", (socket) => sockets.add(socket));
  server.on("upgrade", (incoming, socket) => {
    const outgoing = forward(incoming);
    outgoing.on("upgrade", ({ rawHeaders }, upstream, first) => {
      sockets.add(upstream);
      const lines = ["HTTP/1.1 101 Switching Protocols"];
      for (let at = 0; at < rawHeaders.length; at += 2) lines.push(`${rawHeaders[at]}: ${rawHeaders[at + 1]}`);
      socket.write(`${lines.join("\r\n")}\r\n\r\n`);
      socket.write(first);
      for (const end of [socket, upstream]) end.on("error", () => end.destroy());
      upstream.pipe(socket).pipe(upstream);
    });
    outgoing.on("error", () => socket.destroy());
    outgoing.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `http://127.0.0.1:${server.address().port}`;
}
