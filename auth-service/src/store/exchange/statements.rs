//! The statements of a batch. They exist for SQLite alone.

/// The accepted tokens among those of the batch `$1`, with the data that an access token needs.
///
/// The answer is one row of JSON. The thread of the connection wakes the reader of the rows for each
/// row, and the two would take turns for a whole batch.
pub(in crate::store) const FIND: &str = "\
    select json_group_array(json_object( \
        'place', item.key, \
        'spent_at', presented.used_at, \
        'session', json_object( \
            'id', sessions.id, 'user_id', user_id, 'client_id', client_id, \
            'created_at', sessions.created_at, 'used_at', item.value ->> 'now', \
            'expires_at', sessions.expires_at, 'device', device, \
            'address', item.value ->> 'address'), \
        'account', json_object( \
            'id', users.id, 'username', username, 'name', name, 'given_name', given_name, \
            'family_name', family_name, 'email', email, 'email_verified_at', email_verified_at, \
            'created_at', users.created_at, 'disabled_at', disabled_at, 'claims', claims), \
        'grants', (select json_group_array(json_array(room, actions) order by room) \
                   from grants where subject = users.id))) \
    from json_each($1) as item \
         cross join refresh_tokens as presented \
             on presented.hash = unhex(item.value ->> 'presented') \
         cross join sessions on sessions.id = presented.session_id \
         cross join users on users.id = sessions.user_id \
    where client_id = item.value ->> 'client_id' and ended_at is null \
          and sessions.expires_at > item.value ->> 'now' and disabled_at is null \
          and (presented.used_at is not null or presented.expires_at > item.value ->> 'now')";

/// The tokens of the batch `$1` that are unspent and have their successor: between the first statement of
/// [`EXCHANGE`] and the last, the tokens that it exchanges.
macro_rules! from_exchanged {
    () => {
        "from json_each($1) as item \
              cross join refresh_tokens as presented \
                  on presented.hash = unhex(item.value ->> 'presented') \
              cross join refresh_tokens as successor \
                  on successor.hash = unhex(item.value ->> 'successor') \
         where presented.used_at is null"
    };
}

/// The exchange of the batch `$1`: one query of four statements, which costs one switch to the thread of
/// the connection and back.
///
/// The first statement inserts the successors of the tokens that are still accepted. From then until the
/// last statement, an unspent token with a successor is a token of this batch. The second statement
/// returns the places of these tokens, the third updates their sessions, and the last spends them.
pub(in crate::store) const EXCHANGE: &str = concat!(
    "insert into refresh_tokens (hash, session_id, issued_at, expires_at) \
     select unhex(item.value ->> 'successor'), sessions.id, item.value ->> 'now', \
            min(sessions.expires_at, (item.value ->> 'now') + (item.value ->> 'idle_secs')) \
     from json_each($1) as item \
          cross join refresh_tokens as presented \
              on presented.hash = unhex(item.value ->> 'presented') \
          cross join sessions on sessions.id = presented.session_id \
          cross join users on users.id = sessions.user_id \
     where presented.used_at is null and presented.expires_at > item.value ->> 'now' \
           and client_id = item.value ->> 'client_id' and ended_at is null \
           and sessions.expires_at > item.value ->> 'now' and disabled_at is null; ",
    "select json_group_array(item.key) ",
    from_exchanged!(),
    "; with used as materialized ( \
         select presented.session_id, item.value ->> 'now' as now, \
                item.value ->> 'address' as address, \
                item.value ->> 'token_expires_at' as next_expires_at ",
    from_exchanged!(),
    ") update sessions \
       set used_at = used.now, address = used.address, \
           token_expires_at = case when token_expires_at > used.next_expires_at \
                                   then token_expires_at else used.next_expires_at end \
       from used where sessions.id = used.session_id; ",
    "with used as materialized (select presented.hash, item.value ->> 'now' as now ",
    from_exchanged!(),
    ") update refresh_tokens set used_at = used.now \
       from used where refresh_tokens.hash = used.hash",
);
