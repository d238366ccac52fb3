-- Clean-up finds what is old without looking at every row.
create index sessions_by_expiry on sessions (expires_at);
create index ended_sessions on sessions (ended_at) where ended_at is not null;
create index spent_refresh_tokens on refresh_tokens (expires_at) where used_at is not null;
