create table signing_keys (
    -- The `kid`: the thumbprint of the public key (RFC 7638).
    id text not null primary key,
    -- `pending`: published, and signs nothing yet; `active`: signs; `retiring`: verifies what it signed.
    state text not null check (state in ('pending', 'active', 'retiring')),
    -- The private key as PKCS #8, encrypted.
    sealed bytea not null,
    -- The public key as a JWK.
    public_key text not null,
    created_at bigint not null,
    -- When it came into its state.
    since bigint not null
);

-- Of two processes that rotate at once, one is told that the other has done it.
create unique index one_key_signs on signing_keys (state) where state = 'active';
create unique index one_key_is_next on signing_keys (state) where state = 'pending';
