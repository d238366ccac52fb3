-- What happened, and to whom. Each row holds the hash of the one before it, so that a changed or
-- missing row shows.
create table audit_events (
    number integer not null primary key,
    at integer not null,
    event text not null,
    user_id text,
    session_id text,
    -- JSON with what else is worth keeping; never a secret, nor what was typed as a name.
    detail text not null,
    previous blob not null,
    hash blob not null
) strict;

create trigger audit_events_are_not_changed before update on audit_events
begin
    select raise(abort, 'audit events are not changed');
end;

create trigger audit_events_are_not_removed before delete on audit_events
begin
    select raise(abort, 'audit events are not removed');
end;
