//! The only place that signs.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Map, Value};
use shared_claims::{
    Claims,
    authorization::AuthorizationDetail,
    claims::{ACCESS_TOKEN_TYPE, Audience, Profile, REALTIME_AUDIENCE},
    revocation::{Events, LOGOUT_LIFETIME_SECS, LOGOUT_TOKEN_TYPE, LogoutClaims},
    verify::MAXIMUM_TOKEN_BYTES,
};
use zeroize::Zeroizing;

use crate::{
    config::{RESERVED_CLAIMS, Settings},
    ids::random_id,
};

/// Contents of a token; the signer adds the rest.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// The `sub`.
    pub subject: &'a str,
    /// The `aud`.
    pub audience: &'a str,
    /// The `client_id`.
    pub client_id: &'a str,
    /// The `sid`.
    pub session_id: &'a str,
    /// The `scope`, separated by spaces.
    pub scope: Option<String>,
    /// The rights to rooms.
    pub authorization_details: Vec<AuthorizationDetail>,
    /// The person, which goes in when the settings let it.
    pub profile: Option<Profile>,
    /// Roles and custom claims. Reserved ones are left out.
    pub further: Map<String, Value>,
    /// The second by which it ends at the latest, since the epoch: that of its session.
    pub expires_by: Option<u64>,
}

/// The claims of a token, with those that the issuer does not decide on.
#[derive(Serialize)]
struct Contents<'a> {
    #[serde(flatten)]
    claims: &'a Claims,
    #[serde(flatten)]
    further: &'a Map<String, Value>,
}

/// A token that was signed.
#[derive(Debug)]
pub struct SignedToken {
    /// The token.
    pub token: Zeroizing<String>,
    /// Time for which the token is accepted, in seconds.
    pub expires_in: u64,
}

/// Signs access tokens (RFC 9068) with one key.
pub struct Signer {
    issuer: String,
    lifetime_secs: u64,
    with_profile: bool,
    further_audiences: Vec<String>,
    header: Header,
    key: EncodingKey,
}

impl Signer {
    /// A signer after the settings, with a key and its id.
    #[must_use]
    pub fn new(
        settings: &Settings,
        algorithm: Algorithm,
        key_id: String,
        key: EncodingKey,
    ) -> Self {
        let header = Header {
            typ: Some(ACCESS_TOKEN_TYPE.to_owned()),
            kid: Some(key_id),
            ..Header::new(algorithm)
        };
        Self {
            issuer: settings.public_url.clone(),
            lifetime_secs: settings.token.lifetime_secs,
            with_profile: settings.token.profile,
            further_audiences: settings.token.audiences.clone(),
            header,
            key,
        }
    }

    /// An access token that ends a lifetime after `now`.
    ///
    /// # Errors
    ///
    /// When the clock stands before 1970, there is no randomness for its id, or the cryptographic
    /// provider fails.
    pub fn sign(&self, new: NewToken<'_>, now: SystemTime) -> anyhow::Result<SignedToken> {
        let issued_at = seconds(now)?;
        let expires_at = new
            .expires_by
            .unwrap_or(u64::MAX)
            .min(issued_at + self.lifetime_secs);
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: new.subject.to_owned(),
            aud: self.audience_of(new.audience),
            exp: expires_at,
            iat: issued_at,
            nbf: None,
            jti: Some(random_id()?),
            sid: Some(new.session_id.to_owned()),
            client_id: Some(new.client_id.to_owned()),
            scope: new.scope,
            authorization_details: new.authorization_details,
            profile: new
                .profile
                .filter(|_| self.with_profile)
                .unwrap_or_default(),
        };
        let mut further = new.further;
        further.retain(|name, _| name == "roles" || !RESERVED_CLAIMS.contains(&name.as_str()));
        let contents = Contents {
            claims: &claims,
            further: &further,
        };
        let token = jsonwebtoken::encode(&self.header, &contents, &self.key);
        let token = Zeroizing::new(token.context("cannot sign a token")?);
        let (subject, length) = (new.subject, token.len());
        // Every verifier would refuse it, our own as well.
        ensure!(
            length <= MAXIMUM_TOKEN_BYTES,
            "the token of {subject} has {length} bytes, more than {MAXIMUM_TOKEN_BYTES}: its grants, \
             roles and claims are too long"
        );
        Ok(SignedToken {
            token,
            expires_in: expires_at.saturating_sub(issued_at),
        })
    }

    /// The `aud` of a token for `audience`: people's tokens are for the team's own services as well.
    fn audience_of(&self, audience: &str) -> Audience {
        if audience != REALTIME_AUDIENCE || self.further_audiences.is_empty() {
            return Audience::One(audience.to_owned());
        }
        let further = self.further_audiences.iter().map(String::as_str);
        let all = [audience].into_iter().chain(further);
        Audience::Many(all.map(str::to_owned).collect())
    }

    /// A token that tells a gateway that a session has ended. The last token of the session expires at `tokens_exp`, in
    /// seconds since the epoch.
    ///
    /// # Errors
    ///
    /// When the clock stands before 1970, or the cryptographic provider fails.
    pub fn sign_logout(
        &self,
        id: &str,
        (session_id, tokens_exp): (&str, u64),
        now: SystemTime,
    ) -> anyhow::Result<Zeroizing<String>> {
        let issued_at = seconds(now)?;
        let claims = LogoutClaims {
            iss: self.issuer.clone(),
            aud: Audience::One(REALTIME_AUDIENCE.to_owned()),
            iat: issued_at,
            exp: issued_at + LOGOUT_LIFETIME_SECS,
            jti: id.to_owned(),
            sid: session_id.to_owned(),
            tokens_exp: Some(tokens_exp),
            events: Events::default(),
        };
        let header = Header {
            typ: Some(LOGOUT_TOKEN_TYPE.to_owned()),
            ..self.header.clone()
        };
        let token = jsonwebtoken::encode(&header, &claims, &self.key);
        Ok(Zeroizing::new(token.context("cannot sign a token")?))
    }
}

fn seconds(now: SystemTime) -> anyhow::Result<u64> {
    let since = now.duration_since(UNIX_EPOCH);
    Ok(since.context("the clock stands before 1970")?.as_secs())
}
