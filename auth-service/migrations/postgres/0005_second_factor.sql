create table totp_secrets (
    user_id text not null primary key references users (id),
    -- The shared secret (RFC 6238), encrypted.
    sealed bytea not null,
    created_at bigint not null,
    -- When a first code proved that the person has it; null asks nobody for a code.
    confirmed_at bigint,
    -- The time step of the last code that was taken: none is taken twice.
    last_step bigint not null default 0
);

create table recovery_codes (
    user_id text not null references users (id),
    -- SHA-256 of a code with enough random bits that no guess hits.
    hash bytea not null,
    used_at bigint,
    primary key (user_id, hash)
);

-- A login that waits for its second factor.
create table login_challenges (
    -- SHA-256 of the challenge that the client holds.
    hash bytea not null primary key,
    user_id text not null references users (id),
    -- The hash of the password that was right: the challenge dies when it is changed.
    password_hash text not null,
    expires_at bigint not null,
    -- Codes that were tried.
    attempts bigint not null default 0,
    used_at bigint
);
