create table clients (
    -- The `client_id`.
    id text not null primary key,
    -- The scopes that it may ask for, separated by spaces.
    scopes text not null,
    created_at bigint not null,
    -- When it was removed, or null. A row is never deleted: its id must not be given again.
    removed_at bigint
);

create table client_secrets (
    -- SHA-256 of 256 random bits, which need no slow hash.
    hash bytea not null primary key,
    client_id text not null references clients (id),
    created_at bigint not null,
    -- When a secret that was replaced stops working; null for the newest.
    expires_at bigint
);

create index client_secrets_of_client on client_secrets (client_id);

create table grants (
    -- A user's id, or a client's id after `client:`.
    subject text not null,
    -- A pattern of rooms, such as `chat:**`.
    room text not null,
    -- Which of `sub`, `pub`, `hst` and `prs`, separated by commas.
    actions text not null,
    created_at bigint not null,
    primary key (subject, room)
);
