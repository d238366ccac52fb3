-- What happened, and to whom. Each row holds the hash of the one before it, so that a changed or
-- missing row shows.
create table audit_events (
    number bigint not null primary key,
    at bigint not null,
    event text not null,
    user_id text,
    session_id text,
    -- JSON with what else is worth keeping; never a secret, nor what was typed as a name.
    detail text not null,
    previous bytea not null,
    hash bytea not null
);

create function refuse_change_of_audit_events() returns trigger language plpgsql as $$
begin
    raise exception 'audit events are not changed or removed';
end;
$$;

create trigger audit_events_are_not_changed before update or delete on audit_events
for each row execute function refuse_change_of_audit_events();

create trigger audit_events_are_not_emptied before truncate on audit_events
for each statement execute function refuse_change_of_audit_events();
