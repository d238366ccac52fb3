-- Passkeys (Web Authentication): public keys with which people sign in without a password.
create table passkeys (
    id text not null primary key,
    -- The identifier that the authenticator gave the credential.
    credential_id blob not null unique,
    user_id text not null references users (id),
    -- The name that its owner gave it.
    name text not null,
    -- The ways in which browsers reach the authenticator, as a set of bits.
    transports integer not null,
    -- The public key, and the extensions of the enrolment.
    public_key blob not null,
    -- Changes with a login: the signature counter, and whether the credential is backed up.
    state blob not null,
    created_at integer not null,
    -- The time of the last login with it.
    used_at integer
) strict;

create index passkeys_of_user on passkeys (user_id);

-- Challenges that were answered, until they expire by themselves: none is answered twice.
create table passkey_challenges (
    -- SHA-256 of the challenge.
    hash blob not null primary key,
    expires_at integer not null
) strict;

create index passkey_challenges_by_end on passkey_challenges (expires_at);
