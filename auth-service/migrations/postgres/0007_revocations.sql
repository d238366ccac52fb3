create table revocations (
    -- The `jti` of the logout token.
    id text not null primary key,
    -- The session whose tokens are not to be accepted any more.
    session_id text not null,
    user_id text not null,
    revoked_at bigint not null,
    -- When the last token of the session has expired, and nobody needs to be told any more.
    moot_at bigint not null
);

create table revocation_deliveries (
    revocation_id text not null references revocations (id) on delete cascade,
    -- The gateway that is to be told, by its URL.
    gateway text not null,
    attempts bigint not null default 0,
    next_attempt_at bigint not null,
    primary key (revocation_id, gateway)
);

create index revocation_deliveries_by_time on revocation_deliveries (next_attempt_at);
