create table users (
    -- The token's `sub`: 128 random bits that say nothing of the person, and stay when the name changes.
    id text not null primary key,
    -- As the PRECIS profile UsernameCaseMapped leaves it, so that equality of bytes is equality of names.
    username text not null unique,
    -- What the name looks like (Unicode Technical Standard 39): two that look the same are not both given.
    skeleton text not null unique,
    -- A PHC string, so that each hash carries the parameters that it was made with.
    password_hash text not null,
    -- The person, in OpenID Connect's names; what is null stands in no token.
    name text,
    given_name text,
    family_name text,
    email text,
    -- Seconds since the epoch, as in a token, so that no time zone can creep in.
    created_at bigint not null,
    -- When the account was shut, or null. A row is never deleted: its id must not be given again.
    disabled_at bigint
);
