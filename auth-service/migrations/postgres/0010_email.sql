-- The normal form of `email`, by which two spellings of one address are one. Null without an address,
-- and in rows from before this column until the service has filled it; it stays null when another
-- account has the address.
alter table users add column email_normal text;
create unique index users_of_email on users (email_normal);

-- When somebody proved that the address is theirs, or an operator vouched for it.
alter table users add column email_verified_at bigint;
