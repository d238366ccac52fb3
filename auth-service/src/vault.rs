//! Secrets of the service itself: data that it encrypts before it stores it, and tokens that it derives
//! instead of storing it. Every key comes from the shared secrets, and each purpose has its own.

use anyhow::{Context as _, bail};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest::{SHA256, digest},
    hmac,
};
use shared_claims::secret::{Secret, Secrets};
use zeroize::Zeroizing;

/// The length of a secret's name, which stands in front of what was encrypted under it.
const KEY_ID_BYTES: usize = 16;

/// A SHA-256 hash, as it stands in the database in place of what was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of a text that nobody can guess: 256 random bits need no slow hash.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Returns the hash that was stored as these bytes, or `None` when they are not 32.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Purpose of a key. Two purposes never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Refresh tokens are made from the ones before them.
    RefreshToken,
    /// Private keys that sign are encrypted in the database.
    SigningKey,
    /// Shared secrets of second factors are encrypted in the database.
    SecondFactor,
    /// A device that has signed in before shows it.
    KnownDevice,
    /// Names that nobody has are given the scheme of a hash.
    Decoy,
    /// Tokens of links in mails are made from the identifiers of the mails.
    MailLink,
    /// Addresses and names are counted under a hash of them.
    AttemptCounter,
    /// The state of a passkey's ceremony is encrypted for its client, who returns it.
    PasskeyState,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::RefreshToken => b"latchkey refresh token",
            Self::SigningKey => b"latchkey signing key",
            Self::SecondFactor => b"latchkey second factor",
            Self::KnownDevice => b"latchkey known device",
            Self::Decoy => b"latchkey decoy",
            Self::MailLink => b"latchkey mail link",
            Self::AttemptCounter => b"latchkey attempt counter",
            Self::PasskeyState => b"latchkey passkey state",
        }
    }
}

/// The keys of the service, one for each of the shared secrets: the first makes, all recognize.
pub struct Vault(Vec<Root>);

struct Root {
    id: String,
    key: hmac::Key,
}

impl Vault {
    /// The keys that come from `secrets`.
    ///
    /// # Errors
    ///
    /// When the cryptographic provider cannot name a secret.
    pub fn new(secrets: &Secrets) -> anyhow::Result<Self> {
        let roots = secrets.iter().map(Root::new).collect::<Result<_, _>>()?;
        Ok(Self(roots))
    }

    /// Returns the MACs of `data` under each of the keys, the one to make first.
    #[must_use]
    pub fn macs(&self, purpose: Purpose, data: &[u8]) -> Vec<[u8; 32]> {
        self.0
            .iter()
            .map(|root| mac(&root.key_for(purpose), data))
            .collect()
    }

    /// Encrypts `plain` so that it is read back for the same purpose and `owner` only.
    ///
    /// # Errors
    ///
    /// When the cryptographic provider fails.
    pub fn seal(&self, purpose: Purpose, owner: &str, plain: &[u8]) -> anyhow::Result<Vec<u8>> {
        let root = self.0.first().context("there is no secret")?;
        let mut body = plain.to_vec();
        let nonce = root
            .cipher(purpose)?
            .seal_in_place_append_tag(Aad::from(owner.as_bytes()), &mut body)
            .ok()
            .context("cannot encrypt")?;
        Ok([root.id.as_bytes(), nonce.as_ref(), &body].concat())
    }

    /// Decrypts what [`Self::seal`] made under any of the secrets.
    ///
    /// # Errors
    ///
    /// When it was made under another secret, for another purpose or owner, or was changed.
    pub fn open(
        &self,
        purpose: Purpose,
        owner: &str,
        sealed: &[u8],
    ) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let Some((id, rest)) = sealed.split_at_checked(KEY_ID_BYTES) else {
            bail!("too short to have been encrypted");
        };
        let Some((nonce, body)) = rest.split_at_checked(NONCE_LEN) else {
            bail!("too short to have been encrypted");
        };
        let root = self.0.iter().find(|root| root.id.as_bytes() == id);
        let root = root.context("encrypted under a secret that is not in the list any more")?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok();
        let mut body = Zeroizing::new(body.to_vec());
        let plain = root.cipher(purpose)?.open_in_place(
            nonce.context("no nonce")?,
            Aad::from(owner.as_bytes()),
            &mut body,
        );
        let length = plain
            .ok()
            .context("not what was encrypted for this owner")?
            .len();
        body.truncate(length);
        Ok(body)
    }

    /// Whether `sealed` was made under another than the first of the secrets, and is to be made
    /// again before that one is taken out of the list.
    #[must_use]
    pub fn is_outdated(&self, sealed: &[u8]) -> bool {
        let newest = self.0.first().map(|root| root.id.as_bytes());
        sealed.get(..KEY_ID_BYTES) != newest
    }
}

impl Root {
    fn new(secret: &Secret) -> anyhow::Result<Self> {
        Ok(Self {
            id: secret.key_id().context("cannot name a secret")?,
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()),
        })
    }

    /// The key of one purpose: a keyed hash of the purpose's name is as good as random.
    fn key_for(&self, purpose: Purpose) -> hmac::Key {
        let derived = Zeroizing::new(mac(&self.key, purpose.label()));
        hmac::Key::new(hmac::HMAC_SHA256, &*derived)
    }

    fn cipher(&self, purpose: Purpose) -> anyhow::Result<RandomizedNonceKey> {
        let derived = Zeroizing::new(mac(&self.key, purpose.label()));
        RandomizedNonceKey::new(&AES_256_GCM, &*derived)
            .ok()
            .context("cannot make a cipher")
    }
}

fn mac(key: &hmac::Key, data: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hmac::sign(key, data).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use shared_claims::secret::SECRET_VARIABLE;

    use super::*;

    const OLD: &str = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";
    const NEW: &str = "Qe7Rt2Yu9Io4Pa1Sd6Fg3Hj8Kl5Zx0Cv";

    fn vault(secrets: &str) -> Vault {
        let secrets = Secrets::parse(SECRET_VARIABLE, secrets, ',').expect("secrets");
        Vault::new(&secrets).expect("a vault")
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_purpose_and_owner_only() {
        let vault = vault(OLD);
        let sealed = vault.seal(Purpose::SigningKey, "key-1", b"private");
        let mut sealed = sealed.expect("sealed");
        let open = |purpose, owner, sealed: &[u8]| vault.open(purpose, owner, sealed).ok();
        let opened = open(Purpose::SigningKey, "key-1", &sealed).expect("opened");
        assert_eq!(opened.as_slice(), b"private");
        assert!(open(Purpose::SecondFactor, "key-1", &sealed).is_none());
        assert!(open(Purpose::SigningKey, "key-2", &sealed).is_none());
        assert!(open(Purpose::SigningKey, "key-1", &sealed[..20]).is_none());
        *sealed.last_mut().expect("a byte") ^= 1;
        assert!(open(Purpose::SigningKey, "key-1", &sealed).is_none());
    }

    #[test]
    fn a_new_secret_makes_and_the_old_one_is_still_recognized() {
        let (old, both, new) = (vault(OLD), vault(&format!("{NEW},{OLD}")), vault(NEW));
        let sealed = old
            .seal(Purpose::SecondFactor, "alice", b"seed")
            .expect("sealed");
        assert!(both.open(Purpose::SecondFactor, "alice", &sealed).is_ok());
        assert!(new.open(Purpose::SecondFactor, "alice", &sealed).is_err());
        assert!(both.is_outdated(&sealed) && !old.is_outdated(&sealed));
        let macs = both.macs(Purpose::RefreshToken, b"a token");
        assert_eq!(macs[0], new.macs(Purpose::RefreshToken, b"a token")[0]);
        assert_eq!(macs[1], old.macs(Purpose::RefreshToken, b"a token")[0]);
        assert_ne!(macs[0], both.macs(Purpose::KnownDevice, b"a token")[0]);
    }
}
