//! The client that asks, and its proof that it is the one (RFC 6749, section 2.3.1).

use actix_web::{HttpRequest, http::header};
use headers::{Authorization, Header as _, authorization::Basic};
use http::HeaderValue;
use zeroize::Zeroizing;

use super::{OAuthError, Parameters};
use crate::{
    client_info::ClientInfo, guard::counters::Counter, guard::limits::Limit, state::AppState,
    store::Client, vault::Hash,
};

/// The longest id or secret that is looked at, in bytes.
const MAXIMUM_BYTES: usize = 256;

/// Identity and secret that a request gives for its client.
pub(super) enum Claimed {
    /// Nothing.
    Nobody,
    /// An id without a secret, as a public client has it.
    Public(String),
    /// An id and a secret.
    Confidential(String, Zeroizing<String>),
}

/// Reads the client from the header or from the body.
///
/// # Errors
///
/// When both speak, or the header is not `Basic` with an id and a secret.
pub(super) fn claimed(
    request: &HttpRequest,
    parameters: &Parameters,
) -> Result<Claimed, OAuthError> {
    let body = (parameters.get("client_id"), parameters.get("client_secret"));
    let mut headers = request.headers().get_all(header::AUTHORIZATION);
    let header = headers.next();
    if headers.next().is_some() || (header.is_some() && body.1.is_some()) {
        return Err(OAuthError::InvalidRequest(
            "a client authenticates in one way".into(),
        ));
    }
    let claimed = match (header, body) {
        (Some(header), (id_in_body, _)) => {
            let (id, secret) = basic(header.as_bytes()).ok_or(OAuthError::InvalidClient)?;
            if id_in_body.is_some_and(|other| other != id) {
                return Err(OAuthError::InvalidRequest("there are two clients".into()));
            }
            Claimed::Confidential(id, secret)
        }
        (None, (Some(id), Some(secret))) => {
            Claimed::Confidential(id.to_owned(), secret.to_owned().into())
        }
        (None, (Some(id), None)) => Claimed::Public(id.to_owned()),
        (None, (None, Some(_))) => {
            return Err(OAuthError::InvalidRequest("client_id is missing".into()));
        }
        (None, (None, None)) => Claimed::Nobody,
    };
    Ok(claimed)
}

/// Returns the id and the secret of a header: each is form-encoded before they are joined (RFC 6749,
/// section 2.3.1).
fn basic(header: &[u8]) -> Option<(String, Zeroizing<String>)> {
    if header.len() > 4 * MAXIMUM_BYTES {
        return None;
    }
    let header = HeaderValue::from_bytes(header).ok()?;
    let Authorization(basic) = Authorization::<Basic>::decode(&mut [header].iter()).ok()?;
    let decode = |text: &str| {
        let (decoded, _) = form_urlencoded::parse(text.as_bytes()).next()?;
        Some(decoded.into_owned())
    };
    Some((decode(basic.username())?, decode(basic.password())?.into()))
}

/// The client that proves who it is with its secret.
///
/// # Errors
///
/// [`OAuthError::InvalidClient`] whether the id or the secret is wrong, or missing; a limit in place
/// of it when too many from the address were.
pub(super) async fn authenticate(
    state: &AppState,
    client_info: &ClientInfo,
    claimed: Claimed,
    now: i64,
) -> Result<Client, OAuthError> {
    let Claimed::Confidential(id, secret) = claimed else {
        return Err(OAuthError::InvalidClient);
    };
    if id.len() > MAXIMUM_BYTES || secret.len() > MAXIMUM_BYTES || id.contains('\0') {
        return Err(OAuthError::InvalidClient);
    }
    let found = state
        .store()
        .authenticate_client(&id, &Hash::of(&secret), now)
        .await?;
    if found.is_none() {
        // A secret has 256 random bits, so the limit bounds the work and no guessing: a right secret
        // is never refused for what others did.
        let address =
            Counter::of_address(state.limits(), Limit::ClientsOfAddress, client_info.address);
        address.take(&state.counting()).await?;
    }
    found.ok_or(OAuthError::InvalidClient)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    #[test]
    fn id_and_secret_are_decoded_each_for_itself() {
        let header = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let (id, secret) = basic(header("my%3Aid:a+b%25").as_bytes()).expect("a client");
        assert_eq!((id.as_str(), secret.as_str()), ("my:id", "a b%"));
        for bad in [
            "",
            "Basic",
            "Bearer YTpi",
            "Basic !!",
            &header("no colon"),
            &header(":x"),
        ] {
            assert!(basic(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
