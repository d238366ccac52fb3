// An issuer on Express with argon2 and better-sqlite3: login, and refresh tokens that work once.
// PORT, LATCHKEY_SECRET, DATABASE (a path), ACCOUNT_NAME, ACCOUNT_PASSWORD.
import { createHash, createSecretKey, randomBytes, randomUUID } from "node:crypto";
import argon2 from "argon2";
import Database from "better-sqlite3";
import express from "express";
import jwt from "jsonwebtoken";

const TOKEN_SECS = 900;
const IDLE_SECS = 14 * 24 * 3600;
// The cost of auth-service's default settings.
const COST = { type: argon2.argon2id, memoryCost: 19456, timeCost: 2, parallelism: 1 };
const { env } = process;
const key = createSecretKey(Buffer.from(env.LATCHKEY_SECRET));

const database = new Database(env.DATABASE);
// As in auth-service: a commit is on the disk before its answer.
database.pragma("journal_mode = WAL");
database.pragma("synchronous = FULL");
database.pragma("foreign_keys = ON");
database.exec(`
  create table users (id text primary key, username text not null unique, password_hash text not null) strict;
  create table sessions (id text primary key, user_id text not null references users (id),
    created_at integer not null, used_at integer not null, expires_at integer not null, ended_at integer) strict;
  create index sessions_of_user on sessions (user_id);
  create table refresh_tokens (hash blob primary key, session_id text not null references sessions (id),
    expires_at integer not null, used_at integer) strict;
  create index refresh_tokens_of_session on refresh_tokens (session_id);
`);
const sql = {
  addUser: database.prepare("insert into users values (?, ?, ?)"),
  findUser: database.prepare("select * from users where username = ?"),
  addSession: database.prepare("insert into sessions values (?, ?, ?, ?, ?, null)"),
  addToken: database.prepare("insert into refresh_tokens values (?, ?, ?, null)"),
  spendToken: database.prepare(
    "update refresh_tokens set used_at = ? where hash = ? and used_at is null and expires_at > ? returning session_id",
  ),
  touchSession: database.prepare(
    "update sessions set used_at = ? where id = ? and ended_at is null and expires_at > ? returning user_id",
  ),
  endSessionOf: database.prepare(
    "update sessions set ended_at = ? where id = (select session_id from refresh_tokens where hash = ?) and ended_at is null",
  ),
  findName: database.prepare("select username from users where id = ?"),
};

const nowSecs = () => Math.floor(Date.now() / 1000);
const hashOf = (token) => createHash("sha256").update(token).digest();

function addToken(session, now) {
  const token = randomBytes(32).toString("base64url");
  sql.addToken.run(hashOf(token), session, now + IDLE_SECS);
  return token;
}

const startSession = database.transaction((user, now) => {
  const session = randomUUID();
  sql.addSession.run(session, user.id, now, now, now + 90 * 24 * 3600);
  return { session, subject: user.id, name: user.username, token: addToken(session, now) };
});

const rotate = database.transaction((presented, now) => {
  const hash = hashOf(presented);
  const spent = sql.spendToken.get(now, hash, now);
  if (spent === undefined) {
    // A second use means that somebody has a copy: the session ends.
    sql.endSessionOf.run(now, hash);
    return undefined;
  }
  const touched = sql.touchSession.get(now, spent.session_id, now);
  if (touched === undefined) return undefined;
  const { username } = sql.findName.get(touched.user_id);
  const session = spent.session_id;
  return { session, subject: touched.user_id, name: username, token: addToken(session, now) };
});

function answer(response, started) {
  const claims = { sid: started.session, name: started.name, client_id: "latchkey-login" };
  const token = jwt.sign(claims, key, {
    algorithm: "HS256",
    subject: started.subject,
    audience: "latchkey-realtime",
    issuer: `http://127.0.0.1:${env.PORT}`,
    jwtid: randomUUID(),
    expiresIn: TOKEN_SECS,
  });
  response.json({ token, token_type: "Bearer", expires_in: TOKEN_SECS, refresh_token: started.token });
}

const app = express();
app.disable("x-powered-by");
app.use(express.json());

app.post("/login", async (request, response) => {
  const { username, password } = request.body ?? {};
  const user = typeof username === "string" ? sql.findUser.get(username) : undefined;
  if (user === undefined || typeof password !== "string" || !(await argon2.verify(user.password_hash, password))) {
    return response.status(401).json({ code: "invalid_credentials" });
  }
  answer(response, startSession(user, nowSecs()));
});

app.post("/token/refresh", (request, response) => {
  const presented = request.body?.refresh_token;
  const started = typeof presented === "string" ? rotate(presented, nowSecs()) : undefined;
  if (started === undefined) return response.status(401).json({ code: "invalid_grant" });
  answer(response, started);
});

sql.addUser.run(randomUUID(), env.ACCOUNT_NAME, await argon2.hash(env.ACCOUNT_PASSWORD, COST));
app.listen(Number(env.PORT), "127.0.0.1");
