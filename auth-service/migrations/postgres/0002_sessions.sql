create table sessions (
    -- The token's `sid`.
    id text not null primary key,
    user_id text not null references users (id),
    -- The client that signed in; a refresh token is worth nothing to another.
    client_id text not null,
    created_at bigint not null,
    -- The last login or refresh.
    used_at bigint not null,
    -- However often it is refreshed, the session ends here.
    expires_at bigint not null,
    -- When it was ended before that, and why; null while it lives.
    ended_at bigint,
    end_reason text,
    -- What the person may recognize it by: the browser's name for itself, and where it came from.
    device text not null,
    address text not null
);

create index sessions_of_user on sessions (user_id);

create table refresh_tokens (
    -- SHA-256 of the token: who reads the database has no token.
    hash bytea not null primary key,
    session_id text not null references sessions (id) on delete cascade,
    issued_at bigint not null,
    -- Who does not refresh until then has to sign in again.
    expires_at bigint not null,
    -- When it was exchanged for its successor. The row stays, so that a second use is seen.
    used_at bigint
);

create index refresh_tokens_of_session on refresh_tokens (session_id);
