//! The two ceremonies of Web Authentication, registration and authentication (sections 7.1 and 7.2), as
//! functions of their inputs: no request, no database.

use std::{fmt, ops::RangeInclusive, time::SystemTime};

use anyhow::{Context as _, anyhow};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use serde_json::Value;
use webauthn_rp::{
    AuthenticatedCredential, DiscoverableAuthenticationServerState,
    DiscoverableCredentialRequestOptions, PublicKeyCredentialCreationOptions,
    RegistrationServerState,
    bin::{Decode as _, Encode as _},
    request::{
        PublicKeyCredentialDescriptor, TimedCeremony,
        auth::AuthenticationVerificationOptions,
        register::{
            CredProtect, Nickname, PublicKeyCredentialUserEntity, RegistrationVerificationOptions,
            UserHandle, Username,
        },
    },
    response::{
        AuthTransports, CredentialId, Origin,
        auth::DiscoverableAuthentication,
        register::{DynamicState, Registration, StaticState, UncompressedPubKey},
    },
};

use crate::{
    clock::seconds_since_epoch,
    config::RelyingParty,
    store::{Account, LoginRequirements, Passkey, SpentChallenge},
    vault::{Hash, Purpose, Vault},
};

/// Length of a user handle, in bytes.
const HANDLE_BYTES: usize = 32;

/// Time for which a spent challenge is kept after its end, in seconds: longer than a request takes that was
/// verified before, and than the clocks of two issuers differ.
const KEPT_SECS: i64 = 600;

/// Accepted sizes of an RSA key, in bits. The library takes up to 16,384, whose signatures take sixteen times
/// as long to verify.
const RSA_BITS: RangeInclusive<usize> = 2048..=4096;

/// Separates user handles from other hashes of an account's id.
const HANDLE_LABEL: &str = "latchkey passkey user ";

/// The name for an authenticator's list when a username cannot be one.
const NAMELESS: &str = "account";

/// An answer of an authenticator to a login.
pub(super) type Assertion = DiscoverableAuthentication<HANDLE_BYTES>;

/// A ceremony that was started.
pub(super) struct Started {
    /// The argument of the browser's call, in the JSON of Web Authentication.
    pub(super) options: Value,
    /// The state of the ceremony, encrypted. The client returns it with the answer.
    pub(super) state: String,
}

/// A passkey that has passed its enrolment.
#[derive(Debug)]
pub(super) struct Enrolled {
    pub(super) credential_id: Vec<u8>,
    pub(super) transports: i64,
    pub(super) public_key: Vec<u8>,
    pub(super) state: Vec<u8>,
    pub(super) challenge: SpentChallenge,
}

/// A login that has passed its verification.
#[derive(Debug)]
pub(super) struct Verified {
    /// The passkey's state from now on.
    pub(super) next_state: Vec<u8>,
    pub(super) challenge: SpentChallenge,
}

/// The reason why an answer is refused. It is logged, and not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The state was made for somebody else or another ceremony, or was changed, or the password or the second
    /// factor of the account has changed since.
    #[error("the state is not of this ceremony")]
    State,
    /// The answer breaks a rule of Web Authentication: the name of the library's error, whose text repeats what
    /// the client sent.
    #[error("the answer breaks a rule: {0}")]
    Answer(String),
    /// Anybody can sign for the key.
    #[error("the public key is of small order")]
    SmallOrder,
    /// Each verification with the key is costly, or the key is weak.
    #[error("the RSA key does not have 2048 to 4096 bits")]
    RsaBits,
    /// The stored passkey cannot be read.
    #[error("the stored passkey cannot be read")]
    Stored,
}

impl Refusal {
    fn of_answer(error: &impl fmt::Debug) -> Self {
        let text = format!("{error:?}");
        let name = text.split(|character: char| !character.is_ascii_alphanumeric());
        Self::Answer(name.into_iter().next().unwrap_or_default().to_owned())
    }
}

/// The purposes of a state: the first enrols a passkey for an account, as long as a login to it needs the same
/// proofs; the second signs anybody in.
enum Ceremony<'a> {
    Enrolment(&'a str, LoginRequirements),
    Login,
}

impl Ceremony<'_> {
    fn owner(&self) -> String {
        match self {
            Self::Enrolment(user_id, requirements) => {
                let version = requirements.password_version.unwrap_or_default();
                let codes = u8::from(requirements.has_second_factor);
                format!("enrolment {user_id} {version} {codes}")
            }
            Self::Login => "login".to_owned(),
        }
    }

    fn seal(
        &self,
        vault: &Vault,
        state: &[u8],
        client: &impl Serialize,
    ) -> anyhow::Result<Started> {
        let sealed = vault.seal(Purpose::PasskeyState, &self.owner(), state)?;
        Ok(Started {
            options: serde_json::to_value(client).context("options that are no JSON")?,
            state: URL_SAFE_NO_PAD.encode(sealed),
        })
    }

    fn open(&self, vault: &Vault, state: &str) -> Result<Vec<u8>, Refusal> {
        let sealed = URL_SAFE_NO_PAD.decode(state);
        let sealed = sealed.map_err(|_| Refusal::State)?;
        let opened = vault.open(Purpose::PasskeyState, &self.owner(), &sealed);
        Ok(opened.map_err(|_| Refusal::State)?.to_vec())
    }
}

/// The origins that an answer may come from.
struct Allowed<'a>(&'a RelyingParty);

impl PartialEq<Origin<'_>> for Allowed<'_> {
    fn eq(&self, origin: &Origin<'_>) -> bool {
        self.0.is_allowed(&origin.0)
    }
}

/// Starts the enrolment of a passkey for an account that has `present` ones, and whose owner has shown the
/// proofs of `requirements`.
pub(super) fn start_enrolment(
    party: &RelyingParty,
    vault: &Vault,
    account: &Account,
    requirements: LoginRequirements,
    present: &[Passkey],
) -> anyhow::Result<Started> {
    let handle = handle_of(&account.id)?;
    let name = Username::try_from(account.username.as_str());
    let name = name.or_else(|_| Username::try_from(NAMELESS));
    let user = PublicKeyCredentialUserEntity {
        name: name.map_err(|error| anyhow!("{error}"))?,
        id: &handle,
        display_name: account
            .name
            .as_deref()
            .and_then(|name| Nickname::try_from(name).ok()),
    };
    let present = present.iter().filter_map(descriptor_of).collect();
    let mut options = PublicKeyCredentialCreationOptions::passkey(&party.rp_id, user, present);
    // Each login demands user verification, whatever the authenticator would do without it.
    options.extensions.cred_protect = CredProtect::None;
    let started = options.start_ceremony();
    let (server, client) = started.map_err(|error| anyhow!("{error}"))?;
    Ceremony::Enrolment(&account.id, requirements).seal(vault, &server.encode()?, &client)
}

/// Verifies the answer to an enrolment of an account to which a login needs the proofs of `requirements` now.
pub(super) fn finish_enrolment(
    party: &RelyingParty,
    vault: &Vault,
    user_id: &str,
    requirements: LoginRequirements,
    state: &str,
    answer: &Registration,
) -> Result<Enrolled, Refusal> {
    let state = Ceremony::Enrolment(user_id, requirements).open(vault, state)?;
    let state = RegistrationServerState::<HANDLE_BYTES>::decode(&state);
    let state = state.map_err(|_| Refusal::State)?;
    let challenge = spent(&state)?;
    let options = RegistrationVerificationOptions::<Allowed<'_>, Allowed<'_>> {
        allowed_origins: &[Allowed(party)],
        // Some authenticators add extensions that nobody asked for.
        error_on_unsolicited_extensions: false,
        ..RegistrationVerificationOptions::default()
    };
    let verified = state.verify(&party.rp_id, answer, &options);
    let verified = verified.map_err(|error| Refusal::of_answer(&error))?;
    if is_of_small_order(verified.static_state().credential_public_key) {
        return Err(Refusal::SmallOrder);
    }
    if !has_accepted_size(verified.static_state().credential_public_key) {
        return Err(Refusal::RsaBits);
    }
    let Ok(public_key) = verified.static_state().encode();
    let Ok(state) = verified.dynamic_state().encode();
    let Ok(transports) = verified.transports().encode();
    Ok(Enrolled {
        credential_id: verified.id().into_inner().to_vec(),
        transports: transports.into(),
        public_key,
        state: state.to_vec(),
        challenge,
    })
}

/// Starts a login with any passkey of the relying party.
pub(super) fn start_login(party: &RelyingParty, vault: &Vault) -> anyhow::Result<Started> {
    let options = DiscoverableCredentialRequestOptions::passkey(&party.rp_id);
    let started = options.start_ceremony();
    let (server, client) = started.map_err(|error| anyhow!("{error}"))?;
    Ceremony::Login.seal(vault, &server.encode()?, &client)
}

/// Parses the answer to a login: the JSON of a browser's credential. `None` without a user handle, which
/// every passkey has: the library takes a null for a handle, and panics when it reads it.
pub(super) fn parse_assertion(credential: &Value) -> Option<Assertion> {
    credential.pointer("/response/userHandle")?.as_str()?;
    Assertion::from_json_relaxed(credential.to_string().as_bytes()).ok()
}

/// Verifies the answer to a login, which comes from the passkey `stored`.
pub(super) fn finish_login(
    party: &RelyingParty,
    vault: &Vault,
    state: &str,
    answer: &Assertion,
    stored: &Passkey,
) -> Result<Verified, Refusal> {
    let state = Ceremony::Login.open(vault, state)?;
    let state = DiscoverableAuthenticationServerState::decode(state.as_slice());
    let state = state.map_err(|_| Refusal::State)?;
    let challenge = spent(&state)?;
    let handle = handle_of(&stored.user_id).map_err(|_| Refusal::Stored)?;
    let id = CredentialId::<&[u8]>::decode(&stored.credential_id).map_err(|_| Refusal::Stored)?;
    let key = StaticState::decode(&stored.public_key).map_err(|_| Refusal::Stored)?;
    let dynamic = stored.state.as_slice().try_into();
    let dynamic = DynamicState::decode(dynamic.map_err(|_| Refusal::Stored)?);
    let dynamic = dynamic.map_err(|_| Refusal::Stored)?;
    let credential = AuthenticatedCredential::new(id, &handle, key, dynamic);
    let mut credential = credential.map_err(|_| Refusal::Stored)?;
    let options = AuthenticationVerificationOptions::<Allowed<'_>, Allowed<'_>> {
        allowed_origins: &[Allowed(party)],
        error_on_unsolicited_extensions: false,
        ..AuthenticationVerificationOptions::default()
    };
    state
        .verify(&party.rp_id, answer, &mut credential, &options)
        .map_err(|error| Refusal::of_answer(&error))?;
    let Ok(next_state) = credential.dynamic_state().encode();
    Ok(Verified {
        next_state: next_state.to_vec(),
        challenge,
    })
}

/// Returns the handle by which authenticators know an account. It names nobody: a hash of the account's
/// random identifier.
fn handle_of(user_id: &str) -> anyhow::Result<UserHandle<HANDLE_BYTES>> {
    let hash = digest(&SHA256, format!("{HANDLE_LABEL}{user_id}").as_bytes());
    let Ok(handle) = UserHandle::decode(hash.as_ref().try_into().context("a SHA-256 hash")?);
    Ok(handle)
}

fn descriptor_of(passkey: &Passkey) -> Option<PublicKeyCredentialDescriptor<Vec<u8>>> {
    let transports = u8::try_from(passkey.transports).ok()?;
    Some(PublicKeyCredentialDescriptor {
        id: CredentialId::<Vec<u8>>::decode(passkey.credential_id.clone()).ok()?,
        transports: AuthTransports::decode(transports).ok()?,
    })
}

/// Returns whether a public key is a point of Ed25519 with small order, for which signatures can be made
/// without a private key (RFC 8032, section 8.9, leaves the check to the verifier).
fn is_of_small_order(key: UncompressedPubKey<'_>) -> bool {
    let UncompressedPubKey::Ed25519(key) = key else {
        return false;
    };
    let point = key.into_inner().try_into().ok();
    let key = point.and_then(|point| VerifyingKey::from_bytes(point).ok());
    key.is_none_or(|key| key.is_weak())
}

/// Returns whether a public key of RSA has [`RSA_BITS`]; any other key has one size.
fn has_accepted_size(key: UncompressedPubKey<'_>) -> bool {
    let UncompressedPubKey::Rsa(key) = key else {
        return true;
    };
    let modulus = key.n();
    let leading_zeros = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = modulus.len() * 8 - leading_zeros as usize;
    RSA_BITS.contains(&bits)
}

/// Returns the challenge of a ceremony as one that is answered now.
fn spent(ceremony: &impl TimedCeremony) -> Result<SpentChallenge, Refusal> {
    let end: SystemTime = ceremony.expiration();
    let expires_at = seconds_since_epoch(end).map_err(|_| Refusal::State)?;
    Ok(SpentChallenge {
        hash: Hash::of(&format!("{:032x}", ceremony.sent_challenge().0)),
        expires_at: expires_at.saturating_add(KEPT_SECS),
    })
}
