-- A login looks for the live sessions of its account, of which there are few; those that have ended stay for
-- `session.retention_secs`.
create index live_sessions_of_user on sessions (user_id) where ended_at is null;
