-- When the account was deleted, in seconds since the epoch, or null. The row stays, without anything
-- that names the person: its id must not be given again.
alter table users add column deleted_at integer;

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
drop trigger audit_events_are_not_changed;
create trigger audit_events_are_not_changed before update on audit_events
when not (
    new.personal is null
    and new.number is old.number and new.at is old.at and new.event is old.event
    and new.user_id is old.user_id and new.session_id is old.session_id
    and new.previous is old.previous and new.hash is old.hash
    and (new.detail is old.detail
         or (old.event in ('logged_in', 'grant_added', 'grant_removed')
             and new.detail like '{"erased":"%"}'))
)
begin
    select raise(abort, 'audit events are not changed');
end;
