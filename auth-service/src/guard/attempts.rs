//! One attempt to sign in: counted, queued, and judged the same whatever is wrong with it.

use std::net::IpAddr;

use zeroize::Zeroizing;

use super::{
    address_count::AddressCount,
    counters::{self, Counter, Counting},
    devices::KnownDevice,
    limits::{Key, Limit, LimitReached},
};
use crate::{
    credentials::{CredentialError, Password, hash::StoredHash},
    metrics::{LoginOutcome, Metrics},
    store::{Account, AccountWithHash, StoreError},
    users::{
        Authenticated, AuthenticationError, MAXIMUM_JUDGEMENTS, Users,
        password::{Place, PoolError},
    },
    vault::Purpose,
    waiting::Waiting,
};

/// The parts of the service that judge an attempt.
#[derive(Clone)]
pub(crate) struct Judge<'a> {
    /// The accounts.
    pub(crate) users: &'a Users,
    /// The counters.
    pub(crate) counting: Counting<'a>,
    /// The requests that wait for a password thread.
    pub(crate) waiting: &'a Waiting<Key>,
    /// The number of requests of one address that may wait.
    pub(crate) waiting_per_address: u32,
    /// The count of outcomes.
    pub(crate) metrics: &'a Metrics,
}

impl Judge<'_> {
    /// Counts the reason, and logs it with the account's id if there is one: the text that was typed as a
    /// name may be a password.
    fn refuse(&self, error: AuthenticationError) -> AttemptError {
        let (outcome, user) = match error {
            AuthenticationError::Unknown => (LoginOutcome::UnknownUser, None),
            AuthenticationError::WrongPassword { id } => (LoginOutcome::WrongPassword, Some(id)),
            AuthenticationError::Disabled { id } => (LoginOutcome::Disabled, Some(id)),
            AuthenticationError::Locked { id } => (LoginOutcome::Locked, id),
            AuthenticationError::Pool(error) => {
                self.metrics.login(match error {
                    PoolError::Overloaded => LoginOutcome::Overloaded,
                    PoolError::Failed => LoginOutcome::Failed,
                });
                return AttemptError::Pool(error);
            }
            AuthenticationError::Store(error) => {
                self.metrics.login(LoginOutcome::Failed);
                return AttemptError::Store(error);
            }
        };
        self.metrics.login(outcome);
        tracing::info!(outcome = outcome.name(), user, "login");
        AttemptError::Refused
    }

    fn limited(&self, reached: LimitReached) -> AttemptError {
        self.metrics.login(LoginOutcome::Limited);
        AttemptError::Limited(reached)
    }
}

/// Reason that an attempt was refused.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// Too many attempts of the address have failed.
    Limited(LimitReached),
    /// Too many attempts of the address wait.
    Crowded,
    /// The text can be nobody's password.
    NoPassword(CredentialError),
    /// The name, the password or the account is not accepted. A visitor is not told which.
    Refused,
    /// The password could not be verified.
    Pool(PoolError),
    /// The database failed.
    Store(StoreError),
}

/// A name and a password, and who presents them.
pub(crate) struct Attempt<'a> {
    /// The address that it comes from.
    pub(crate) address: IpAddr,
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
    /// not learn that a guess was right. Neither are those devices counted by their address.
    ///
    /// # Errors
    ///
    /// [`AttemptError::Limited`] when too many of the address have failed, [`AttemptError::Crowded`] when
    /// too many wait, and [`AttemptError::Refused`] whatever is wrong with the name, the password or the
    /// account.
    pub(crate) async fn judge(&self, judge: &Judge<'_>) -> Result<Authenticated, AttemptError> {
        let counting = &judge.counting;
        let waiting = judge.waiting.enter(
            counting.limits.address_key(self.address),
            judge.waiting_per_address,
        );
        let _waiting = waiting.ok_or(AttemptError::Crowded)?;
        let device = self.device_counter(counting);
        let address = AddressCount::begin(counting, self.address, device.is_some());
        let address = address.map_err(|reached| judge.limited(reached))?;

        let place = match judge.users.passwords().enter() {
            Ok(place) => place,
            Err(error) => {
                address.give_back(counting);
                return Err(judge.refuse(error.into()));
            }
        };
        // The rest is large, and most attempts of a flood never come to it: on the heap, it is
        // not carried along by those.
        Box::pin(self.judge_at(place, (address, device), judge)).await
    }

    /// Judges the attempt and does `work` with the account. `work` returns `None` when the password
    /// has been changed since: then the attempt is judged again.
    ///
    /// # Errors
    ///
    /// When [`Self::judge`] or `work` fails, and [`PoolError::Overloaded`] when the password is changed again
    /// and again.
    pub(crate) async fn judge_and<T, E: From<AttemptError>>(
        &self,
        judge: &Judge<'_>,
        work: impl AsyncFn(Authenticated) -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        for _ in 0..MAXIMUM_JUDGEMENTS {
            let account = self.judge(judge).await?;
            // On the heap for the same reason as in `judge`.
            if let Some(done) = Box::pin(work(account)).await? {
                return Ok(done);
            }
        }
        Err(judge.refuse(PoolError::Overloaded.into()).into())
    }

    /// The same with a place in the queue, for somebody whose attempt was counted.
    async fn judge_at(
        &self,
        place: Place<'_>,
        (mut address, device): (AddressCount, Option<Counter>),
        judge: &Judge<'_>,
    ) -> Result<Authenticated, AttemptError> {
        let counting = &judge.counting;
        let (password, found) = match self.prepare(judge).await {
            Ok(prepared) => prepared,
            Err(error) => {
                address.give_back(counting);
                return Err(error);
            }
        };
        let lane = self.choose_lane(&mut address, device, found.as_ref(), judge)?;
        let counters: Vec<&Counter> = address.counter().into_iter().chain([&lane]).collect();
        // Asked after the password was verified, and moved by failures alone: attempts that run at the
        // same time do not shut the name for each other, and no more than the limit can fail before a
        // right one is refused.
        let mut limited = None;
        let is_shut = async || {
            // Asked for a name that is shut here as well, or the time of the answer would tell that it is.
            limited = counters::find_used_up(counting, &counters).await?;
            // Others have failed at this issuer meanwhile.
            Ok(limited.is_some() || lane.is_used_up_here(counting))
        };
        let decoy = self.decoy(judge);
        let judging = judge.users.judge(place, found, decoy, password, is_shut);
        let outcome = judging.await;
        let is_failure = matches!(
            &outcome,
            Err(AuthenticationError::Unknown
                | AuthenticationError::WrongPassword { .. }
                | AuthenticationError::Disabled { .. }
                | AuthenticationError::Locked { .. })
        );
        if !is_failure {
            address.give_back(counting);
            if let Ok(Authenticated { account, .. }) = &outcome {
                // Those that run at the same time may be a few too many.
                let right_logins = Counter::of_right_logins(counting.limits, &account.id);
                let _ = right_logins.take_here(counting);
            }
            return outcome.map_err(|error| judge.refuse(error));
        }
        // Refused when it is used up already, which is no other answer.
        let _ = lane.take_here(counting);
        let counted = counters::count(counting, &counters).await;
        let counted = counted.map_err(|error| judge.refuse(error.into()))?;
        let of_address = |reached: &LimitReached| reached.limit == Limit::LoginsOfAddress;
        if let Some(reached) = limited.or(counted).filter(of_address) {
            return Err(judge.limited(reached));
        }
        outcome.map_err(|error| judge.refuse(error))
    }

    /// Returns the counter that the attempt moves: that of the owner's device, or that of the name.
    fn choose_lane(
        &self,
        address: &mut AddressCount,
        device: Option<Counter>,
        found: Option<&AccountWithHash>,
        judge: &Judge<'_>,
    ) -> Result<Counter, AttemptError> {
        let counting = &judge.counting;
        let has_lane = |found: &AccountWithHash| {
            let (id, version) = (&found.account.id, found.password_version);
            let device = self.device.as_ref();
            device.is_some_and(|device| device.has_lane(id, version))
        };
        let own_device = device.filter(|_| found.is_some_and(has_lane));
        let decided = address.decide(counting, own_device.is_some());
        decided.map_err(|reached| judge.limited(reached))?;
        if let Some(found) = found {
            let right_logins = Counter::of_right_logins(counting.limits, &found.account.id);
            if let Err(reached) = right_logins.require_room_here(counting) {
                address.give_back(counting);
                return Err(judge.limited(reached));
            }
        }
        Ok(own_device.unwrap_or_else(|| self.name_counter(judge)))
    }

    /// Returns whether the attempt comes from a device that has signed in to the account before.
    pub(crate) fn is_own(&self, account: &Account) -> bool {
        self.device
            .as_ref()
            .is_some_and(|device| device.is_of(account))
    }

    /// The password, if it can be one, and the account, if there is one.
    async fn prepare(
        &self,
        judge: &Judge<'_>,
    ) -> Result<(Password, Option<AccountWithHash>), AttemptError> {
        let password = Password::parse(self.password.clone()).map_err(AttemptError::NoPassword)?;
        let found = judge.users.find(self.username).await;
        Ok((password, found.map_err(|error| judge.refuse(error.into()))?))
    }

    /// Returns what the password is compared with when nobody has the name. The key keeps a stranger from
    /// knowing which scheme a name has.
    fn decoy(&self, judge: &Judge<'_>) -> Option<StoredHash> {
        let name = judge.users.canonical_name(self.username);
        let macs = judge
            .counting
            .ring
            .vault
            .macs(Purpose::Decoy, name.as_bytes());
        let (draw, _) = macs.first()?.split_first_chunk()?;
        judge.users.decoy(u64::from_be_bytes(*draw))
    }

    /// Returns the counter of the device that sends the attempt, if it has signed in before, to whatever account,
    /// and has not failed too often itself.
    fn device_counter(&self, counting: &Counting<'_>) -> Option<Counter> {
        let device = self.device.as_ref()?;
        let counter = Counter::of_text(counting.limits, Limit::LoginsOfDevice, &device.device_id);
        (!counter.is_used_up_here(counting)).then_some(counter)
    }

    /// Returns the counter that strangers share who try this name.
    fn name_counter(&self, judge: &Judge<'_>) -> Counter {
        let name = judge.users.canonical_name(self.username);
        Counter::of_text(judge.counting.limits, Limit::LoginsOfName, &name)
    }
}
