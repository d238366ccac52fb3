-- The roles and the custom claims of an account, as JSON, or null when there are none.
alter table users add column claims text;
