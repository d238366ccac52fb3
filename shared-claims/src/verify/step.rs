//! The steps of a verification, in their order.

use std::fmt;

/// One check of [`Verifier::verify_observed`](super::Verifier::verify_observed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The header asks for no extension: `crit`, `zip`, `b64`.
    Extensions,
    /// The header's `alg` is one of the issuer's, and a key for it is known.
    Algorithm,
    /// The header's `typ` is one of the issuer's.
    Type,
    /// The claim `iss` is the issuer's.
    Issuer,
    /// The header's `kid` names a key of the issuer.
    Key,
    /// The key is for the algorithm of the header.
    KeyAlgorithm,
    /// The signature is by the key.
    Signature,
    /// The claim `exp` is in the future, and not too far.
    Expiry,
    /// The claim `nbf`, when there is one, is not in the future.
    NotBefore,
    /// The claim `iat` is not in the future, and the lifetime from it is not too long.
    IssuedAt,
    /// The audience is one of ours.
    Audience,
    /// The token is an access token, or of another kind that the issuer's settings accept.
    Kind,
    /// The claims that the issuer's settings require have the required values.
    RequiredClaims,
    /// The claim with this name has the type that it must have.
    Claim(&'static str),
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Extensions => "header: no extension is required (crit, zip, b64)",
            Self::Algorithm => "header: alg is one of the issuer's, with a key for it",
            Self::Type => "header: typ is one of the issuer's types",
            Self::Issuer => "iss is the issuer's",
            Self::Key => "header: kid names a key of the issuer",
            Self::KeyAlgorithm => "header: alg is the key's",
            Self::Signature => "the signature is by the key",
            Self::Expiry => "exp is in the future, and not too far",
            Self::NotBefore => "nbf is not in the future",
            Self::IssuedAt => "iat is not in the future, and exp not too far from it",
            Self::Audience => "the audience is one of ours",
            Self::Kind => "the token is an access token, and no ID token",
            Self::RequiredClaims => "the required claims have their values",
            Self::Claim(name) => return write!(formatter, "the claim {name} has its type"),
        })
    }
}
