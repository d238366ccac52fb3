//! The status of an answer, and the pause that it asks for.

use std::time::{Duration, SystemTime};

use http::{StatusCode, header};

use crate::{
    backends::{CallError, Failure, client::Answer},
    clock::wall_now,
};

/// The pause of a back end that asks for one without its length.
const USUAL_PAUSE: Duration = Duration::from_secs(1);

/// Decides by the status of `answer` whether there is an answer. A pause that the back end asks for is
/// `longest_pause` at most.
pub(super) fn check_status(answer: &Answer, longest_pause: Duration) -> Result<(), CallError> {
    let status = answer.status();
    let reason = format!("the back end answered {}", status.as_u16());
    match status {
        _ if status.is_success() => Ok(()),
        _ if status.is_redirection() => Err(CallError::permanent(format!(
            "{reason}: no redirect is followed"
        ))),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Err(match (retry_after(answer), status) {
                (Some(pause), _) => CallError::postponed(reason, pause.min(longest_pause)),
                // A proxy says the same when the back end is down.
                (None, StatusCode::SERVICE_UNAVAILABLE) => {
                    CallError::temporary(Failure::Busy, reason)
                }
                (None, _) => CallError::postponed(reason, USUAL_PAUSE),
            })
        }
        _ if status.is_server_error() => Err(CallError::temporary(Failure::Failed, reason)),
        _ => Err(CallError::permanent(reason)),
    }
}

/// Returns the pause that an answer asks for.
fn retry_after(answer: &Answer) -> Option<Duration> {
    let text = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    pause_of(text.trim(), wall_now())
}

/// Parses the value of Retry-After (RFC 9110, section 10.2.3): seconds or a date. A date that is over asks for no
/// pause.
fn pause_of(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(secs) = text.parse() {
        return Some(Duration::from_secs(secs));
    }
    let end = httpdate::parse_http_date(text).ok()?;
    Some(end.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, secs) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:57 GMT", Some(20)),
            ("Sun, 06 Nov 1994 08:49:17 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
        ] {
            assert_eq!(pause_of(text, now), secs.map(Duration::from_secs), "{text}");
        }
    }
}
