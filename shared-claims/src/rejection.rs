//! The closed list of reasons to refuse a credential.

use serde::Serialize;

/// Why a credential was refused.
///
/// Each has a message, which is all that a Socket.IO client is shown and so identifies the reason
/// one to one; a code, in the names of `socketio-jwt`; and a finer reason. Where `socketio-jwt` had
/// a text of its own, it is that text. None of them holds a value of the token or of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
#[error("{}", self.message())]
pub enum Rejection {
    /// No credential came with the request.
    TokenMissing,
    /// An `Authorization` header, or a token with a scheme, that is not `Bearer TOKEN`.
    CredentialsMalformed,
    /// Two credentials that differ (RFC 6750, section 2 forbids two methods).
    CredentialsAmbiguous,
    /// The payload of the CONNECT packet is not an object.
    PayloadMalformed,
    /// The token is not a string.
    TokenNotAString,
    /// The token is longer than 8 KiB.
    TokenTooLarge,
    /// The token is not three segments of base64url with JSON objects in the first two.
    TokenMalformed,
    /// The signature is empty.
    SignatureMissing,
    /// The header asks for an extension that is not understood (`crit`, `zip`, `b64`).
    HeaderUnsupported,
    /// The algorithm is not the key's.
    AlgorithmInvalid,
    /// The `typ` is not that of an access token.
    TypeInvalid,
    /// The `iss` is not a configured issuer.
    IssuerInvalid,
    /// The `kid` names none of the issuer's keys.
    KeyUnknown,
    /// The signature does not match.
    SignatureInvalid,
    /// The token has ended.
    TokenExpired,
    /// The `exp` is further off than the issuer may set it.
    LifetimeTooLong,
    /// The `nbf` is in the future.
    TokenNotActive,
    /// The `iat` is in the future.
    IssuedInFuture,
    /// The token is for somebody else.
    AudienceInvalid,
    /// A claim is missing, of the wrong type, or does not belong in an access token.
    ClaimsInvalid,
    /// The issuer has ended the token's session, or all of its subject.
    TokenRevoked,
    /// A token that is to extend a session is of another issuer, subject or session.
    IdentityMismatch,
    /// No token came in the time that an unauthenticated socket has.
    AuthenticationTimedOut,
    /// The token is good, but its subject has as many sockets as it may.
    TooManySockets,
    /// The token is good, but the back end that is asked about clients refuses this one.
    RefusedByBackEnd,
    /// The token is good, but it is not one of those that may enter the namespace.
    NamespaceForbidden,
    /// The connection is in as many namespaces as it may be.
    TooManyNamespaces,
}

impl Rejection {
    /// All of them, in the order in which `docs/protocol.md` lists them.
    pub const ALL: [Self; 27] = [
        Self::TokenMissing,
        Self::CredentialsMalformed,
        Self::CredentialsAmbiguous,
        Self::PayloadMalformed,
        Self::TokenNotAString,
        Self::TokenTooLarge,
        Self::TokenMalformed,
        Self::SignatureMissing,
        Self::HeaderUnsupported,
        Self::AlgorithmInvalid,
        Self::TypeInvalid,
        Self::IssuerInvalid,
        Self::KeyUnknown,
        Self::SignatureInvalid,
        Self::TokenExpired,
        Self::LifetimeTooLong,
        Self::TokenNotActive,
        Self::IssuedInFuture,
        Self::AudienceInvalid,
        Self::ClaimsInvalid,
        Self::TokenRevoked,
        Self::IdentityMismatch,
        Self::AuthenticationTimedOut,
        Self::TooManySockets,
        Self::RefusedByBackEnd,
        Self::NamespaceForbidden,
        Self::TooManyNamespaces,
    ];

    /// The text for people and for `connect_error`.
    #[must_use]
    pub const fn message(self) -> &'static str {
        self.texts().0
    }

    /// The coarse code, as `socketio-jwt` has it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.texts().1
    }

    /// The fine reason.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        self.texts().2
    }

    const fn texts(self) -> (&'static str, &'static str, &'static str) {
        const INVALID: &str = "invalid_token";
        const FORMAT: &str = "credentials_bad_format";
        match self {
            Self::TokenMissing => ("no token provided", "credentials_required", "token_missing"),
            Self::CredentialsMalformed => (
                "Format is Authorization: Bearer [token]",
                FORMAT,
                "credentials_malformed",
            ),
            Self::CredentialsAmbiguous => (
                "more than one token provided",
                FORMAT,
                "credentials_ambiguous",
            ),
            Self::PayloadMalformed => (
                "connect payload must be an object",
                FORMAT,
                "payload_malformed",
            ),
            Self::TokenNotAString => ("invalid token datatype", INVALID, "token_not_a_string"),
            Self::TokenTooLarge => ("jwt too large", INVALID, "token_too_large"),
            Self::TokenMalformed => ("jwt malformed", INVALID, "token_malformed"),
            Self::SignatureMissing => ("jwt signature is required", INVALID, "signature_missing"),
            Self::HeaderUnsupported => ("jwt header not supported", INVALID, "header_unsupported"),
            Self::AlgorithmInvalid => ("invalid algorithm", INVALID, "algorithm_invalid"),
            Self::TypeInvalid => ("jwt type invalid", INVALID, "type_invalid"),
            Self::IssuerInvalid => ("jwt issuer invalid", INVALID, "issuer_invalid"),
            Self::KeyUnknown => ("jwt key unknown", INVALID, "key_unknown"),
            Self::SignatureInvalid => ("invalid signature", INVALID, "signature_invalid"),
            Self::TokenExpired => ("jwt expired", INVALID, "token_expired"),
            Self::LifetimeTooLong => ("jwt lifetime too long", INVALID, "lifetime_too_long"),
            Self::TokenNotActive => ("jwt not active", INVALID, "token_not_active"),
            Self::IssuedInFuture => ("jwt issued in the future", INVALID, "issued_in_future"),
            Self::AudienceInvalid => ("jwt audience invalid", INVALID, "audience_invalid"),
            Self::ClaimsInvalid => ("jwt claims invalid", INVALID, "claims_invalid"),
            Self::TokenRevoked => ("jwt revoked", INVALID, "token_revoked"),
            Self::IdentityMismatch => ("jwt of another session", INVALID, "identity_mismatch"),
            Self::AuthenticationTimedOut => (
                "authentication timed out",
                "credentials_required",
                "authentication_timed_out",
            ),
            Self::TooManySockets => (
                "too many connections",
                "too_many_connections",
                "too_many_sockets",
            ),
            Self::RefusedByBackEnd => (
                "refused by the back end",
                "forbidden",
                "refused_by_back_end",
            ),
            Self::NamespaceForbidden => ("namespace forbidden", "forbidden", "namespace_forbidden"),
            Self::TooManyNamespaces => (
                "too many namespaces",
                "too_many_connections",
                "too_many_namespaces",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_message_identifies_its_rejection() {
        let all = Rejection::ALL;
        assert_eq!(
            all.iter()
                .map(|one| one.message())
                .collect::<HashSet<_>>()
                .len(),
            all.len()
        );
        assert_eq!(
            all.iter()
                .map(|one| one.reason())
                .collect::<HashSet<_>>()
                .len(),
            all.len()
        );
    }
}
