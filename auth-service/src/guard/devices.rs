//! Devices that have signed in before. They keep a lane of their own while strangers try passwords
//! for their owner's account.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use shared_claims::ids;

use crate::{
    ids::random_id,
    store::Account,
    vault::{Purpose, Vault},
};

/// Time for which a device is remembered after its last login, in seconds: half a year.
pub(crate) const MEMORY_SECS: i64 = 180 * 24 * 60 * 60;

/// The longest proof that is looked at, in bytes.
const MAXIMUM_BYTES: usize = 1024;

/// Characters of the id of an account that stand in a cookie as themselves. Imported ids may hold anything.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Proof of a device that it has signed in to this account before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownDevice {
    /// The account.
    pub(crate) user_id: String,
    /// The device: each has its own counter.
    pub(crate) device_id: String,
    /// The number of the account's password at the login. `None` for a session, which ends when the password is
    /// changed elsewhere.
    pub(crate) password_version: Option<i64>,
}

impl KnownDevice {
    /// A proof for a device that has just signed in: `USER.DEVICE.END.PASSWORD.MAC`, of characters that a cookie
    /// may have. `PASSWORD` is the number of the account's password.
    ///
    /// # Errors
    ///
    /// When the operating system has no randomness to give.
    pub(crate) fn prove(
        vault: &Vault,
        (user_id, password_version): (&str, i64),
        now: i64,
    ) -> anyhow::Result<String> {
        let user_id = utf8_percent_encode(user_id, PLAIN);
        let (device_id, end) = (random_id()?, now + MEMORY_SECS);
        let body = format!("{user_id}.{device_id}.{end}.{password_version}");
        let macs = vault.macs(Purpose::KnownDevice, body.as_bytes());
        let mac = macs.first().map(ids::token_from).unwrap_or_default();
        Ok(format!("{body}.{mac}"))
    }

    /// Returns whether the device has signed in to this account before.
    pub(crate) fn is_of(&self, account: &Account) -> bool {
        self.user_id == account.id
    }

    /// Returns whether the device has a lane of its own at an account with a password of this number: whoever knew
    /// an earlier one may have made any number of proofs.
    pub(crate) fn has_lane(&self, user_id: &str, password_version: i64) -> bool {
        let is_current = |own: i64| own == password_version;
        self.user_id == user_id && self.password_version.is_none_or(is_current)
    }

    /// The device that a proof names, if it is one of ours and not too old. What is none is left
    /// out of account, as if nothing had been shown.
    pub(crate) fn recognize(vault: &Vault, proof: &str, now: i64) -> Option<Self> {
        if proof.len() > MAXIMUM_BYTES {
            return None;
        }
        let (body, mac) = proof.rsplit_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        let is_ours = vault
            .macs(Purpose::KnownDevice, body.as_bytes())
            .iter()
            .any(|own| verify_slices_are_equal(own, &mac).is_ok());
        if !is_ours {
            return None;
        }
        let mut parts = body.split('.');
        let (user_id, device_id, end) = (parts.next()?, parts.next()?, parts.next()?);
        let password_version = parts.next()?.parse().ok()?;
        let user_id = percent_decode_str(user_id).decode_utf8().ok()?;
        let is_fresh = end.parse::<i64>().is_ok_and(|end| now < end);
        is_fresh.then(|| Self {
            user_id: user_id.into_owned(),
            device_id: device_id.to_owned(),
            password_version: Some(password_version),
        })
    }
}

#[cfg(test)]
mod tests {
    use shared_claims::secret::{SECRET_VARIABLE, Secrets};

    use super::*;

    fn vault(secret: &str) -> Vault {
        Vault::new(&Secrets::parse(SECRET_VARIABLE, secret, ',').expect("secrets"))
            .expect("a vault")
    }

    #[test]
    fn a_proof_is_recognized_until_it_is_too_old_and_no_other_is() {
        let own = vault("mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa");
        let other = vault("Qe7Rt2Yu9Io4Pa1Sd6Fg3Hj8Kl5Zx0Cv");
        let proof = KnownDevice::prove(&own, ("alice", 7), 0).expect("a proof");
        let user = |vault, proof: &str, now| {
            KnownDevice::recognize(vault, proof, now).map(|device| device.user_id)
        };
        assert_eq!(
            user(&own, &proof, MEMORY_SECS - 1).as_deref(),
            Some("alice")
        );
        assert_eq!(user(&own, &proof, MEMORY_SECS), None);
        assert_eq!(user(&other, &proof, 0), None);
        for id in ["a.b", "alice.x.9999999999", "x; Max-Age=0", "50%", "é"] {
            let proof = KnownDevice::prove(&own, (id, 7), 0).expect("a proof");
            assert_eq!(user(&own, &proof, 0).as_deref(), Some(id));
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.%".contains(&byte);
            assert!(proof.bytes().all(is_plain), "{proof}");
        }
        for bad in [
            proof.replacen("alice", "bob", 1),
            "a.b.c".to_owned(),
            "x".repeat(2000),
        ] {
            assert_eq!(user(&own, &bad, 0), None);
        }
    }
}
