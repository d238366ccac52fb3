//! The second factor: codes of an authenticator (RFC 6238), and recovery codes for when it is lost.

use anyhow::Context as _;
use totp_rs::{Builder, Totp};
use zeroize::Zeroizing;

use crate::{
    error::ApiError,
    guard::{counters::Counter, devices::KnownDevice, limits::Limit},
    ids::random_token,
    state::AppState,
    store::{Challenged, OneTimeCode, TotpSecret},
    users::Authenticated,
    vault::{Hash, Purpose},
};

pub(crate) mod enrolment;
pub(crate) mod login;
mod qr;

/// The shared secret, in bytes: as long as the hash (RFC 4226, section 4).
const SECRET_BYTES: usize = 20;

/// The name under which an authenticator lists the account.
const ISSUER: &str = "Latchkey";

/// Number of recovery codes of an account.
const RECOVERY_CODES: usize = 10;

/// Time for which a login waits for its second factor, in seconds, and the number of codes that it takes.
const CHALLENGE_SECS: i64 = 5 * 60;
pub(crate) const CHALLENGE_ATTEMPTS: i64 = 5;

/// Asks for the second factor in place of a session, when the account has one.
///
/// # Errors
///
/// [`ApiError::SecondFactorRequired`] with a challenge that is good for nothing but a code.
pub(crate) async fn require(
    state: &AppState,
    account: &Authenticated,
    now: i64,
) -> Result<(), ApiError> {
    if !account.has_second_factor {
        return Ok(());
    }
    let challenge = random_token()?;
    let challenged = Challenged {
        user_id: account.account.id.clone(),
        password_version: account.password_version,
    };
    state
        .store()
        .insert_challenge(&Hash::of(&challenge), &challenged, now + CHALLENGE_SECS)
        .await?;
    Err(ApiError::SecondFactorRequired(challenge))
}

/// Returns whether a login to the account asks for a code.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn is_confirmed(state: &AppState, user_id: &str) -> Result<bool, ApiError> {
    let secret = state.store().find_totp_secret(user_id).await?;
    Ok(secret.is_some_and(|secret| secret.confirmed_at.is_some()))
}

/// The counters of an account's wrong codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeLane {
    /// All devices that have signed in to the account share one: each of them with a counter of its own
    /// would multiply the guesses.
    KnownDevices,
    /// Everybody else. Whoever knows the password can use it up.
    Strangers,
}

impl CodeLane {
    /// Returns the lane of a request from `device`, which may be known for another account.
    fn of(device: Option<&KnownDevice>, challenged: &Challenged) -> Self {
        let (id, version) = (&challenged.user_id, challenged.password_version);
        match device {
            Some(device) if device.has_lane(id, version) => Self::KnownDevices,
            _ => Self::Strangers,
        }
    }

    fn counter(self, state: &AppState, user_id: &str) -> Counter {
        let limit = Limit::CodesOfAccount;
        match self {
            Self::KnownDevices => {
                Counter::of_text(state.limits(), limit, &format!("known devices\0{user_id}"))
            }
            Self::Strangers => Counter::of_text(state.limits(), limit, user_id),
        }
    }
}

/// Returns a code of the authenticator or a recovery code that is right and was not used. Uses it up for
/// nothing yet. White space around the code is removed, as around a name.
///
/// # Errors
///
/// [`ApiError::CodeRefused`] when it is none, or was used before; [`ApiError::RateLimited`] when too
/// many were.
pub(crate) async fn check_code(
    state: &AppState,
    user_id: &str,
    lane: CodeLane,
    code: &str,
    now: i64,
) -> Result<OneTimeCode, ApiError> {
    let code = code.trim();
    let counter = lane.counter(state, user_id);
    let taken = counter.take(&state.counting()).await?;
    let secret = state.store().find_totp_secret(user_id).await?;
    let step = match &secret {
        Some(secret) => step_of(state, user_id, secret, (code, now))?,
        None => None,
    };
    let code = match step {
        Some(step) => OneTimeCode::Totp(step),
        None => OneTimeCode::Recovery(Hash::of(&code.to_ascii_uppercase())),
    };
    if !state.store().is_code_unused(user_id, &code).await? {
        return Err(ApiError::CodeRefused);
    }
    counter.give_back(&state.counting(), taken).await;
    Ok(code)
}

/// Uses up a code of the authenticator or a recovery code, for somebody who is signed in.
///
/// # Errors
///
/// See [`check_code`].
pub(crate) async fn use_code(
    state: &AppState,
    user_id: &str,
    code: &str,
    now: i64,
) -> Result<(), ApiError> {
    let code = check_code(state, user_id, CodeLane::KnownDevices, code, now).await?;
    match state.store().use_code(user_id, &code, now).await? {
        true => Ok(()),
        false => Err(ApiError::CodeRefused),
    }
}

/// The time step whose code this is, this one or one beside it; `None` when it is none of them.
fn step_of(
    state: &AppState,
    user_id: &str,
    secret: &TotpSecret,
    (code, now): (&str, i64),
) -> Result<Option<i64>, ApiError> {
    if code.len() != 6 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let ring = state.ring();
    let bytes = ring
        .vault
        .open(Purpose::SecondFactor, user_id, &secret.sealed)?;
    let step = authenticator(&bytes, "")?.check(code, u64::try_from(now).context("a time")?);
    Ok(step.map(i64::try_from).transpose().context("a step")?)
}

/// Returns the authenticator of a secret: six digits by SHA-1 every 30 seconds, which is what every
/// authenticator does.
fn authenticator(secret: &[u8], username: &str) -> anyhow::Result<Totp> {
    // A colon would separate the issuer from the name.
    let name = if username.is_empty() {
        "account"
    } else {
        username
    };
    Builder::new()
        .with_secret(secret.to_vec())
        .with_account_name(name)
        .with_issuer(Some(ISSUER))
        .build()
        .ok()
        .context("this secret makes no codes")
}

/// A recovery code of 128 random bits, in letters that are hard to mistake.
fn recovery_code() -> anyhow::Result<String> {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut bytes = Zeroizing::new([0; 26]);
    getrandom::fill(&mut *bytes).context("no randomness from the operating system")?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte % 32)]))
        .collect())
}

/// A new shared secret.
fn new_secret() -> anyhow::Result<Zeroizing<[u8; SECRET_BYTES]>> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(&mut *bytes).context("no randomness from the operating system")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        let totp = authenticator(b"12345678901234567890", "alice").expect("an authenticator");
        // The last six of the eight digits of appendix B.
        for (time, code, step) in [(59, "287082", 1), (1_111_111_109, "081804", 37_037_036)] {
            assert_eq!(totp.check(code, time), Some(step));
            assert_eq!(totp.check(code, time + 30), Some(step));
            assert_eq!(totp.check(code, time + 60), None);
        }
    }

    #[test]
    fn a_recovery_code_has_letters_that_are_hard_to_mistake() {
        let (one, other) = (
            recovery_code().expect("a code"),
            recovery_code().expect("a code"),
        );
        assert_ne!(one, other);
        assert_eq!(one.len(), 26);
        assert!(!one.contains(['0', 'O', '1', 'I']), "{one}");
    }
}
