-- Everything that others are to be sent. A message is written in the transaction that makes it true,
-- and removed when its destination has taken it or it has expired.
create table outbox (
    -- The order of the messages.
    number integer primary key autoincrement,
    -- The same at every attempt, so that a receiver knows a repeated one: the `jti` of a logout token,
    -- the `Message-ID` of a mail, the `webhook-id` of an event.
    id text not null,
    -- A gateway by its URL, `mail`, or `events`.
    destination text not null,
    -- The account that it is about; null for a mail to an address that no account has.
    user_id text,
    -- For a gateway the session that ended, and else JSON. No secret: the token of a link is derived
    -- when the mail is sent.
    payload text not null,
    -- When nobody needs it any more, in seconds since the epoch.
    expires_at integer not null,
    attempts integer not null default 0,
    next_attempt_at integer not null,
    unique (id, destination)
) strict;

create index outbox_by_time on outbox (destination, next_attempt_at);
create index outbox_of_user on outbox (user_id, destination, number);
create index outbox_by_end on outbox (expires_at);

insert into outbox (id, destination, user_id, payload, expires_at, attempts, next_attempt_at)
select revocation_id, gateway, user_id, session_id, moot_at, attempts, next_attempt_at
from revocation_deliveries join revocations on revocations.id = revocation_id
order by revoked_at;
drop table revocation_deliveries;
drop table revocations;

-- Links in mails. Each is used once.
create table mail_links (
    -- The mail that carries it.
    id text not null primary key,
    -- SHA-256 of the token in the link.
    hash blob not null unique,
    -- `verify_email` or `reset_password`.
    purpose text not null,
    -- Null for an address that no account has, so that a request for one writes as much.
    user_id text references users (id) on delete cascade,
    -- The address that it was sent to, as it was written and in its normal form.
    email text,
    email_normal text,
    -- The number of the account's password when the mail was asked for: the link dies with it.
    password_version integer not null,
    expires_at integer not null,
    -- When it was followed, or replaced by a newer one.
    used_at integer
) strict;

create index mail_links_of_user on mail_links (user_id);
create index mail_links_by_end on mail_links (expires_at);
