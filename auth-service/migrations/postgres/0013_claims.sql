-- The roles and the custom claims of an account, as JSON, or null when there are none.
alter table users add column claims text;

-- When the deletion of the account began, in seconds since the epoch, while rows that name the person are
-- yet to be erased; null otherwise.
alter table users add column erasing_since bigint;
create index users_being_erased on users (id) where erasing_since is not null;

-- Counters of attempts, which all issuers on this database share. Unlogged: a counter costs no write to
-- the log, and a crash of the server empties them.
create unlogged table attempt_counters (
    -- HMAC of the limit and of what is counted, such as an address: nobody reads a name here.
    key bytea not null primary key,
    -- The time at which the counter is empty again, in milliseconds since the epoch by this server's clock.
    empty_at bigint not null
);
create index attempt_counters_by_time on attempt_counters (empty_at);
