-- Counts the passwords of an account. Making a hash anew with other parameters does not count: the
-- password stays the same, and so do the logins that it has started.
alter table users add column password_version bigint not null default 0;

-- A login that waits for its second factor holds while the password is the same. None waits for
-- longer than five minutes: those of this moment are asked for their password again.
delete from login_challenges;
alter table login_challenges drop column password_hash;
alter table login_challenges add column password_version bigint not null default 0;

-- The latest `exp` of the session's access tokens, in seconds since the epoch. Null in a session that
-- is older than this column.
alter table sessions add column token_expires_at bigint;

-- How often the successor of a spent token was replaced, because the answer with it was lost.
alter table refresh_tokens add column reissues bigint not null default 0;
