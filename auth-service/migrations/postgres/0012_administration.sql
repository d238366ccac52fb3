-- When the account was deleted, in seconds since the epoch, or null. The row stays, without anything
-- that names the person: its id must not be given again.
alter table users add column deleted_at bigint;

-- The scheme and the cost of a password's hash that was imported, such as `bcrypt:12`. Null for a hash
-- that the service has made.
alter table users add column hash_scheme text;
create index users_of_hash_scheme on users (hash_scheme) where hash_scheme is not null;

-- The members of an event that name a person, as JSON with a random salt, or null. The detail, which is
-- hashed, has only the SHA-256 of this text, so that it can be erased when the person is.
alter table audit_events add column personal text;
create index audit_events_of_user on audit_events (user_id);

-- Erasing is the one change: of `personal`, and of the detail of an event from before there was
-- `personal`.
create or replace function refuse_change_of_audit_events() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        if new.personal is null
           and (new.number, new.at, new.event, new.previous, new.hash)
               = (old.number, old.at, old.event, old.previous, old.hash)
           and new.user_id is not distinct from old.user_id
           and new.session_id is not distinct from old.session_id
           and (new.detail = old.detail
                or (old.event in ('logged_in', 'grant_added', 'grant_removed')
                    and new.detail like '{"erased":"%"}'))
        then
            return new;
        end if;
    end if;
    raise exception 'audit events are not changed or removed';
end;
$$;
