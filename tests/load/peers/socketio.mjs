// Socket.IO on Node, or on Bun with @socket.io/bun-engine, doing the gateway's job: tokens, rules,
// rooms with offsets, a history of 100 messages, repeated ids, acknowledgements. PORT, LATCHKEY_SECRET.
// With BACK_END a back end answers the other events. With REDIS_URL and ADAPTER (redis-adapter or
// redis-streams-adapter) rooms span several processes; offsets and histories stay those of each.
import { createSecretKey, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import jwt from "jsonwebtoken";
import { Server } from "socket.io";
import { Pool } from "undici";

const HISTORY_MESSAGES = 100;
const REMEMBERED_IDS = 1000;
const isBun = typeof Bun !== "undefined";
const key = createSecretKey(Buffer.from(process.env.LATCHKEY_SECRET));
const port = Number(process.env.PORT);
const options = { serveClient: false, httpCompression: false, perMessageDeflate: false };

const backEnd = process.env.BACK_END && new Pool(process.env.BACK_END, { connections: 64 });
const io = new Server(options);
const rooms = new Map();

if (process.env.REDIS_URL) {
  const { createClient } = await import("redis");
  const client = createClient({ url: process.env.REDIS_URL });
  await client.connect();
  const { createAdapter } = await import(`@socket.io/${process.env.ADAPTER}`);
  if (process.env.ADAPTER === "redis-adapter") {
    const listener = client.duplicate();
    await listener.connect();
    io.adapter(createAdapter(client, listener));
  } else {
    io.adapter(createAdapter(client));
  }
}

function roomOf(name) {
  let room = rooms.get(name);
  if (room === undefined) {
    room = { epoch: randomUUID(), offset: 0, history: [], ids: new Map() };
    rooms.set(name, room);
  }
  return room;
}

function isAllowed(user, room) {
  return room === "lobby" || room === `user:${user.sub}`;
}

function append(room, user, message) {
  const repeated = message.id !== undefined && room.ids.get(`${user.sub}\n${message.id}`);
  if (repeated) return { ok: true, epoch: room.epoch, offset: repeated, id: message.id, duplicate: true };
  room.offset += 1;
  const id = message.id ?? randomUUID();
  if (message.id !== undefined) {
    room.ids.set(`${user.sub}\n${id}`, room.offset);
    if (room.ids.size > REMEMBERED_IDS) room.ids.delete(room.ids.keys().next().value);
  }
  const from = { sub: user.sub, name: user.name };
  const meta = { room: message.room, epoch: room.epoch, offset: room.offset, id, ts: Date.now(), from };
  room.history.push([message.event, message.data, meta]);
  if (room.history.length > HISTORY_MESSAGES) room.history.shift();
  io.to(message.room).emit(message.event, message.data, meta);
  return { ok: true, epoch: room.epoch, offset: room.offset, id };
}

io.use((socket, next) => {
  try {
    socket.data.user = jwt.verify(socket.handshake.auth.token, key, { algorithms: ["HS256"] });
    next();
  } catch (error) {
    next(new Error(error.message));
  }
});

io.on("connection", (socket) => {
  // The request of the handshake is kept otherwise; Socket.IO's guide on memory recommends this.
  if (!isBun) socket.conn.request = null;
  const { user } = socket.data;
  const forbidden = { ok: false, error: { code: "forbidden" } };
  socket.on("rt:subscribe", (message, ack) => {
    if (!isAllowed(user, message.room)) return ack?.(forbidden);
    socket.join(message.room);
    const room = roomOf(message.room);
    ack?.({ ok: true, room: message.room, epoch: room.epoch, offset: room.offset });
  });
  socket.on("rt:publish", (message, ack) => {
    if (!isAllowed(user, message.room)) return ack?.(forbidden);
    const answer = append(roomOf(message.room), user, message);
    ack?.(answer);
  });
  socket.on("load:call", async (...args) => {
    const ack = args.pop();
    const event = { event: "load:call", subject: user.sub, data: { args, claims: user } };
    const headers = { "content-type": "application/json" };
    try {
      const answer = await backEnd.request({ path: "/", method: "POST", headers, body: JSON.stringify(event) });
      ack(...(await answer.body.json()).ack);
    } catch {
      ack({ ok: false, error: { code: "backend_failed" } });
    }
  });
});

if (isBun) {
  const { Server: Engine } = await import("@socket.io/bun-engine");
  const engine = new Engine({ path: "/socket.io/" });
  io.bind(engine);
  Bun.serve({ port, hostname: "127.0.0.1", ...engine.handler() });
} else {
  const server = createServer();
  io.attach(server, options);
  // With Node's default of 511, a storm of connections would overflow the queue of the listener.
  server.listen({ port, host: "127.0.0.1", backlog: 4096 });
}
