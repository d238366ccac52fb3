-- The roles and the custom claims of an account, as JSON, or null when there are none.
alter table users add column claims text;

-- When the deletion of the account began, in seconds since the epoch, while rows that name the person are
-- yet to be erased; null otherwise.
alter table users add column erasing_since integer;
create index users_being_erased on users (id) where erasing_since is not null;
