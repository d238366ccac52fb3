//! What Latchkey's two processes must agree on, byte for byte: the claims of an access token, the
//! secrets and keys that protect it, the one function that accepts it, and the closed list of
//! reasons to refuse it; whose address a request comes from, and whose page; the URL of Redis servers.
//!
//! There is no input or output here, no async and no framework; time and randomness are arguments.
//! Data flows one way: [`Secret`](secret::Secret) → [`KeySet`](key_set::KeySet) →
//! [`Verifier`](verify::Verifier) → [`VerifiedClaims`](verify::VerifiedClaims).

pub mod address;
pub mod authorization;
pub mod claims;
pub mod forwarded;
pub mod ids;
pub mod json;
pub mod key_set;
pub mod origin;
pub mod redis_servers;
pub mod rejection;
pub mod revocation;
pub mod secret;
pub mod verify;

pub use claims::Claims;
pub use rejection::Rejection;
pub use verify::{
    CompactClaims, TokenRules, UnverifiedToken, VerifiedClaims, VerifiedLogout, Verifier,
};
