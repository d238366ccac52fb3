//! One attempt to sign in: counted, queued, and judged the same whatever is wrong with it.

use actix_web::{
    Error, HttpMessage as _,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header::HeaderMap},
    middleware::Next,
    web,
};
use zeroize::Zeroizing;

use crate::{
    body, cookies,
    counters::{self, Counter},
    devices::KnownDevice,
    error::ApiError,
    limits::Limit,
    metrics::LoginOutcome,
    signed_in::SignedIn,
    state::AppState,
    store::{Account, AccountWithHash},
    users::{
        AuthenticationError, MAXIMUM_JUDGEMENTS,
        credentials::Password,
        hash::StoredHash,
        password::{Place, PoolError},
    },
    vault::Purpose,
    visitor::Visitor,
};

/// Turns a login away before anything of it is looked at when there is no room for its password: a
/// flood should cost little more than saying no.
pub(crate) async fn require_room<B: MessageBody>(
    state: web::Data<AppState>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if request.method() != Method::POST || state.users().passwords().has_room() {
        let answer = next.call(request).await?;
        return Ok(answer.map_into_left_body());
    }
    // What is left unread would end the connection, and a new one costs more than a login that is
    // refused.
    let payload = request.take_payload();
    body::discard(request.request(), payload).await;
    let refusal = refuse(&state, PoolError::Overloaded.into());
    Ok(request.error_response(refusal).map_into_right_body())
}

/// A name and a password, and who presents them.
pub(crate) struct Attempt<'a> {
    /// Where it comes from.
    pub(crate) visitor: &'a Visitor,
    /// The name, as it was typed.
    pub(crate) username: &'a str,
    /// The password, as it was typed.
    pub(crate) password: Zeroizing<String>,
    /// The device, if it has signed in before.
    pub(crate) device: Option<KnownDevice>,
}

impl Attempt<'_> {
    /// The account, when the password is right and neither the account nor the name is shut.
    ///
    /// A name for which too many attempts have failed is shut for everybody but the devices that its
    /// owner has signed in with. That looks and takes the same as a wrong password: who guesses does
    /// not learn that a guess was right.
    ///
    /// # Errors
    ///
    /// [`ApiError::RateLimited`] when too many of the address have failed, [`ApiError::Overloaded`]
    /// when too many wait, and else [`ApiError::InvalidCredentials`] whatever the reason.
    pub(crate) async fn judge(&self, state: &AppState) -> Result<AccountWithHash, ApiError> {
        let address = self.visitor.address;
        let address = Counter::of_address(state, Limit::LoginsOfAddress, address);
        let most = state.settings().limits.waiting_per_address;
        let _waiting = state.waiting().enter(address.key(), most)?;
        if let Err(error) = address.take_here(state) {
            state.metrics().login(LoginOutcome::Limited);
            return Err(error);
        }

        let place = match state.users().passwords().enter() {
            Ok(place) => place,
            Err(error) => {
                address.give_back_here(state);
                return Err(refuse(state, error.into()));
            }
        };
        // What follows is large, and most attempts of a flood never come to it: on the heap, it is
        // not carried along by those.
        Box::pin(self.judge_at(place, &address, state)).await
    }

    /// Judges the attempt and does `work` with the account. `work` returns `None` when the password
    /// has been changed since: then the attempt is judged again.
    ///
    /// # Errors
    ///
    /// Those of [`Self::judge`] and of `work`, and [`ApiError::Overloaded`] when the password is
    /// changed again and again.
    pub(crate) async fn judge_and<T>(
        &self,
        state: &AppState,
        work: impl AsyncFn(AccountWithHash) -> Result<Option<T>, ApiError>,
    ) -> Result<T, ApiError> {
        for _ in 0..MAXIMUM_JUDGEMENTS {
            let account = self.judge(state).await?;
            // On the heap for the same reason as in `judge`.
            if let Some(done) = Box::pin(work(account)).await? {
                return Ok(done);
            }
        }
        Err(refuse(state, PoolError::Overloaded.into()))
    }

    /// The same with a place in the queue, for somebody whose attempt was counted.
    async fn judge_at(
        &self,
        place: Place<'_>,
        address: &Counter,
        state: &AppState,
    ) -> Result<AccountWithHash, ApiError> {
        let (password, found) = match self.prepare(state).await {
            Ok(prepared) => prepared,
            Err(error) => {
                address.give_back_here(state);
                return Err(error);
            }
        };
        let lane = self.lane(state, found.as_ref());
        // Asked after the password was verified, and moved by failures alone: attempts that run at the
        // same time do not shut the name for each other, and no more than the limit can fail before a
        // right one is refused.
        let mut limited = None;
        let is_shut = async || {
            if lane.is_used_up_here(state) {
                return Ok(true);
            }
            let used_up = counters::find_used_up(state, &[address, &lane]).await?;
            let is_shut = used_up.is_some();
            limited = used_up;
            Ok(is_shut)
        };
        let decoy = self.decoy(state);
        let users = state.users();
        let outcome = users.judge(place, found, decoy, password, is_shut).await;
        let is_failure = matches!(
            &outcome,
            Err(AuthenticationError::Unknown
                | AuthenticationError::WrongPassword { .. }
                | AuthenticationError::Disabled { .. }
                | AuthenticationError::Locked { .. })
        );
        if !is_failure {
            address.give_back_here(state);
            return outcome.map_err(|error| refuse(state, error));
        }
        // Refused when it is used up already, which is no other answer.
        let _ = lane.take_here(state);
        let counted = counters::count(state, &[address, &lane]).await;
        let counted = counted.map_err(|error| refuse(state, error.into()))?;
        let of_address = |error: &ApiError| {
            let limit = Limit::LoginsOfAddress;
            matches!(error, ApiError::RateLimited { limit: other, .. } if *other == limit)
        };
        if let Some(error) = limited.or(counted).filter(of_address) {
            state.metrics().login(LoginOutcome::Limited);
            return Err(error);
        }
        outcome.map_err(|error| refuse(state, error))
    }

    /// The password, if it can be one, and the account, if there is one.
    async fn prepare(
        &self,
        state: &AppState,
    ) -> Result<(Password, Option<AccountWithHash>), ApiError> {
        let password = Password::parse(self.password.clone())
            .map_err(|error| ApiError::InvalidRequest(error.to_string().into()))?;
        let found = state.users().find(self.username).await;
        Ok((
            password,
            found.map_err(|error| refuse(state, error.into()))?,
        ))
    }

    /// Returns what the password is compared with when nobody has the name. The key keeps a stranger from
    /// knowing which scheme a name has.
    fn decoy(&self, state: &AppState) -> Option<StoredHash> {
        let name = state.users().canonical_name(self.username);
        let macs = state.ring().vault.macs(Purpose::Decoy, name.as_bytes());
        let (draw, _) = macs.first()?.split_first_chunk()?;
        state.users().decoy(u64::from_be_bytes(*draw))
    }

    /// Whose counter this attempt moves: that of the owner's device, as long as it has not failed too
    /// often itself, or that of the name.
    fn lane(&self, state: &AppState, found: Option<&AccountWithHash>) -> Counter {
        let own = self
            .device
            .as_ref()
            .filter(|device| found.is_some_and(|found| found.account.id == device.user_id))
            .map(|device| Counter::of_text(state, Limit::LoginsOfDevice, &device.device_id))
            .filter(|device| !device.is_used_up_here(state));
        own.unwrap_or_else(|| {
            let name = state.users().canonical_name(self.username);
            Counter::of_text(state, Limit::LoginsOfName, &name)
        })
    }
}

/// Returns the known device that sends a request: by `proof`, from the body, or by its cookie.
pub(crate) fn known_device(
    state: &AppState,
    headers: &HeaderMap,
    proof: Option<String>,
    now: i64,
) -> Option<KnownDevice> {
    let cookie = || {
        cookies::values(headers, cookies::DEVICE_COOKIE)
            .into_iter()
            .next()
    };
    let proof = proof.or_else(cookie)?;
    KnownDevice::recognize(&state.ring().vault, &proof, now)
}

/// Returns whether a device has signed in to this account before.
pub(crate) fn is_own(device: Option<&KnownDevice>, account: &Account) -> bool {
    device.is_some_and(|device| device.user_id == account.id)
}

/// Returns the device of somebody who is signed in. Without a proof it is the session itself: a
/// session is a device that has signed in to this account.
pub(crate) fn own_device(
    state: &AppState,
    headers: &HeaderMap,
    proof: Option<String>,
    signed_in: &SignedIn,
    now: i64,
) -> KnownDevice {
    let user_id = &signed_in.account.id;
    let known = known_device(state, headers, proof, now);
    let own = known.filter(|device| device.user_id == *user_id);
    own.unwrap_or_else(|| KnownDevice {
        user_id: user_id.clone(),
        device_id: signed_in.session_id.clone(),
    })
}

/// Logs the reason, by the account's id if there is one: what was typed as a name may be a
/// password. The visitor is told the same for all of them.
fn refuse(state: &AppState, error: AuthenticationError) -> ApiError {
    let (outcome, user) = match error {
        AuthenticationError::Unknown => (LoginOutcome::UnknownUser, None),
        AuthenticationError::WrongPassword { id } => (LoginOutcome::WrongPassword, Some(id)),
        AuthenticationError::Disabled { id } => (LoginOutcome::Disabled, Some(id)),
        AuthenticationError::Locked { id } => (LoginOutcome::Locked, id),
        AuthenticationError::Pool(error) => {
            state.metrics().login(match error {
                PoolError::Overloaded => LoginOutcome::Overloaded,
                PoolError::Failed => LoginOutcome::Failed,
            });
            return error.into();
        }
        AuthenticationError::Store(error) => {
            state.metrics().login(LoginOutcome::Failed);
            return error.into();
        }
    };
    state.metrics().login(outcome);
    tracing::info!(outcome = outcome.name(), user, "login");
    ApiError::InvalidCredentials
}
