//! The client behind an Engine.IO request, and its credentials.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU64,
    sync::LazyLock,
};

use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, uri::PathAndQuery};

use shared_claims::address::AddressKey;

use super::RequestCredentials;
use crate::config::SessionBinding;

/// Who opened a session, as far as its requests show. A `sid` is a bearer secret, so it is worth
/// something only in the hands of the one who got it.
///
/// It holds digests alone: what a client presents is not kept for the life of its session.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Opener {
    address: AddressKey,
    origin: Option<NonZeroU64>,
    /// Absent where it is not compared.
    user_agent: Option<NonZeroU64>,
    query_tokens: Option<NonZeroU64>,
    authorization: Option<NonZeroU64>,
}

/// The key of the digests, which nobody outside of this process knows.
static DIGEST_KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The digest of what a request has; never `None`.
fn digest(value: impl Hash) -> Option<NonZeroU64> {
    NonZeroU64::new(DIGEST_KEY.hash_one(value) | 1)
}

/// The digest of several values; `None` without one.
fn digest_of_all(values: &[impl Hash]) -> Option<NonZeroU64> {
    match values {
        [] => None,
        values => digest(values),
    }
}

impl Opener {
    pub(super) fn of(
        address: IpAddr,
        headers: &HeaderMap,
        credentials: &RequestCredentials,
        binding: SessionBinding,
    ) -> Self {
        let header = |name| headers.get(name).and_then(digest);
        let is_compared = binding == SessionBinding::Address;
        let (tokens, authorization) = (&credentials.query_tokens, &credentials.authorization);
        Self {
            address: AddressKey::from(address),
            origin: header(header::ORIGIN),
            user_agent: is_compared.then(|| header(header::USER_AGENT)).flatten(),
            query_tokens: digest_of_all(tokens),
            authorization: digest_of_all(authorization),
        }
    }

    pub(super) fn address(&self) -> AddressKey {
        self.address
    }

    /// Whether `other`'s request can come from this client.
    ///
    /// Parts that stock clients leave out of some requests may be missing: browsers send no `Origin` with a
    /// GET to the page's own site and no `Authorization` with a WebSocket, and python-engineio sends
    /// its headers with the first request alone. Outside of browsers a WebSocket often comes from
    /// another library than the polls, with a `User-Agent` of its own. The address changes with the
    /// network, and from request to request where both versions of IP, or several proxies, are in use.
    pub(super) fn is_also(
        &self,
        other: &Self,
        is_websocket: bool,
        binding: SessionBinding,
    ) -> bool {
        let is_same_page =
            self.origin.is_none() || other.origin.is_none() || self.origin == other.origin;
        let is_same_network = match binding {
            SessionBinding::Credentials => true,
            SessionBinding::Address => {
                self.address == other.address
                    && (is_websocket || self.user_agent == other.user_agent)
            }
        };
        let may_lack_header = is_websocket || binding == SessionBinding::Credentials;
        is_same_page
            && is_same_network
            && self.query_tokens == other.query_tokens
            && (self.authorization == other.authorization
                || (may_lack_header && other.authorization.is_none()))
    }
}

/// The client of a request.
pub(super) struct Visitor {
    pub(super) opener: Opener,
    pub(super) credentials: RequestCredentials,
}

/// Takes the credentials out of a request, for socketioxide keeps what it is given for as long as
/// the connection lives.
///
/// Cookies come by themselves, from whatever page the browser shows. So `cookie_name` is given for pages
/// of listed origins only.
pub(super) fn take_credentials<B>(
    request: &mut Request<B>,
    cookie_name: Option<&str>,
) -> RequestCredentials {
    let cookie_name = cookie_name.filter(|name| !name.is_empty());
    let cookies = cookie_name.map(|name| cookies_named(name, request.headers()));
    let authorization = request.headers().get_all(header::AUTHORIZATION);
    let mut authorization: Vec<_> = authorization.iter().cloned().collect();
    for value in &mut authorization {
        value.set_sensitive(true);
    }
    request.headers_mut().remove(header::AUTHORIZATION);
    request.headers_mut().remove(header::COOKIE);
    RequestCredentials {
        authorization,
        query_tokens: take_query_tokens(request),
        cookies: cookies.unwrap_or_default(),
    }
}

/// Takes the tokens out of the query of a request.
fn take_query_tokens<B>(request: &mut Request<B>) -> Vec<String> {
    let query = request.uri().query().unwrap_or_default();
    let mut query_tokens = Vec::new();
    // Most requests of a session have none. An escape may stand for a letter of the name.
    if !query.contains("token") && !query.contains('%') {
        return query_tokens;
    }
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match form_urlencoded::parse(pair.as_bytes()).next() {
            Some((name, value)) if name == "token" => query_tokens.push(value.into_owned()),
            _ => kept.push(pair),
        }
    }
    if !query_tokens.is_empty() {
        let path_and_query = format!("{}?{}", request.uri().path(), kept.join("&"));
        // What was parsed from a URI and only lost some of its query still parses.
        if let Ok(path_and_query) = path_and_query.parse::<PathAndQuery>() {
            *request.uri_mut() = Uri::from(path_and_query);
        }
    }
    query_tokens
}

/// Copies what is left of a request's head out of the buffer that it was read into: socketioxide keeps
/// the head as long as the session lives, and with it would keep the buffer, credentials included.
pub(super) fn detach_head<B>(request: &mut Request<B>) {
    let mut headers = HeaderMap::with_capacity(request.headers().len());
    for (name, value) in request.headers() {
        // What was a header's value is one.
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(name.clone(), copy);
        }
    }
    *request.headers_mut() = headers;
    let copy = request.uri().to_string();
    if let Ok(uri) = copy.parse() {
        *request.uri_mut() = uri;
    }
}

/// The values of the cookies with this name (RFC 6265, section 5.4): a neighbouring host can add
/// one of its own to ours.
fn cookies_named(name: &str, headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        // What another page has set may be any bytes, and takes no other cookie with it.
        .filter_map(|pair| str::from_utf8(pair).ok()?.trim().split_once('='))
        .filter(|(own, _)| *own == name)
        .map(|(_, value)| value.trim_matches('"').to_owned())
        .collect()
}

/// The request by which a client that polls says that it closes its session.
pub(super) fn closing_request<B>(uri: &Uri, sid: &str, body: B) -> Option<Request<B>> {
    let protocol = uri
        .query()?
        .split('&')
        .find(|pair| pair.starts_with("EIO="))?;
    Request::builder()
        .method(Method::POST)
        .uri(format!(
            "{}?{protocol}&transport=polling&sid={sid}",
            uri.path()
        ))
        .header(header::CONTENT_TYPE, "text/plain;charset=UTF-8")
        .body(body)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().uri(uri);
        let builder = headers.iter().fold(builder, |builder, (name, value)| {
            builder.header(*name, *value)
        });
        builder.body(()).expect("a request")
    }

    fn opener(address: &str, headers: &[(&str, &str)], uri: &str) -> Opener {
        let mut request = request(uri, headers);
        let credentials = take_credentials(&mut request, None);
        Opener::of(
            address.parse().expect("an address"),
            request.headers(),
            &credentials,
            SessionBinding::Address,
        )
    }

    #[test]
    fn no_credential_stays_in_a_request() {
        let mut request = request(
            "/socket.io/?EIO=4&token=abc&transport=polling&%74oken=def",
            &[
                ("authorization", "Bearer ghi"),
                ("authorization", "Bearer jkl"),
                ("cookie", "a=b"),
            ],
        );
        let credentials = take_credentials(&mut request, None);
        assert_eq!(request.uri(), "/socket.io/?EIO=4&transport=polling");
        assert!(request.headers().is_empty());
        assert_eq!(credentials.query_tokens, ["abc", "def"]);
        assert_eq!(credentials.authorization, ["Bearer ghi", "Bearer jkl"]);
    }

    #[test]
    fn a_detached_head_says_the_same_in_memory_of_its_own() {
        let headers = [("user-agent", "one"), ("x", "2"), ("x", "3")];
        let mut request = request("/socket.io/?EIO=4&transport=polling", &headers);
        let before = (request.uri().clone(), request.headers().clone());
        let place = request.headers()["x"].as_bytes().as_ptr();
        detach_head(&mut request);
        assert_eq!((request.uri(), request.headers()), (&before.0, &before.1));
        assert_ne!(request.headers()["x"].as_bytes().as_ptr(), place);
    }

    #[test]
    fn a_cookie_counts_under_its_own_name() {
        const COOKIE: (&str, &str) = ("cookie", "other=x; token=abc;token2=y; token=\"def\"");
        let cookies = |name| {
            let mut request = request("/socket.io/", &[COOKIE]);
            take_credentials(&mut request, name).cookies
        };
        assert_eq!(cookies(Some("token")), ["abc", "def"]);
        for name in [None, Some(""), Some("Token")] {
            assert!(cookies(name).is_empty(), "{name:?}");
        }
        // A neighbouring host sets any bytes.
        let mut request = request("/socket.io/", &[]);
        let line = HeaderValue::from_bytes(b"other=\xff; token=abc").expect("a header");
        request.headers_mut().insert(header::COOKIE, line);
        let taken = take_credentials(&mut request, Some("token"));
        assert_eq!(taken.cookies, ["abc"]);
    }

    const AGENT: (&str, &str) = ("user-agent", "one");

    #[test]
    fn another_client_is_told_apart_by_its_credentials_and_its_page() {
        const URI: &str = "/socket.io/?token=abc";
        const HEADERS: &[(&str, &str)] = &[
            ("origin", "http://a"),
            ("authorization", "Bearer abc"),
            AGENT,
        ];
        let owner = opener("10.0.0.1", HEADERS, URI);
        let own = |other: &Opener| {
            [false, true]
                .map(|is_websocket| owner.is_also(other, is_websocket, SessionBinding::Credentials))
        };
        for own_request in [
            opener("10.0.0.2", HEADERS, URI),
            opener("::1", &[], URI),
            opener("10.0.0.1", &[("user-agent", "two")], URI),
        ] {
            assert_eq!(own(&own_request), [true; 2]);
        }
        for other in [
            opener("10.0.0.1", HEADERS, "/socket.io/?token=abd"),
            opener("10.0.0.1", HEADERS, "/socket.io/"),
            opener("10.0.0.1", &[("authorization", "Bearer abd")], URI),
            opener("10.0.0.1", &[("origin", "http://b")], URI),
        ] {
            assert_eq!(own(&other), [false; 2]);
        }
        let without = opener("10.0.0.1", &[], "/socket.io/");
        let with_header = opener("10.0.0.1", &HEADERS[1..], "/socket.io/");
        assert!(!without.is_also(&with_header, false, SessionBinding::Credentials));
    }

    #[test]
    fn another_client_is_told_apart_by_its_address_where_that_is_bound() {
        let owner = opener("10.0.0.1", &[AGENT], "/");
        let own = |other: &Opener, is_websocket| {
            owner.is_also(other, is_websocket, SessionBinding::Address)
        };
        assert!(own(&opener("10.0.0.1", &[AGENT], "/"), false));
        assert!(own(&opener("10.0.0.1", &[("user-agent", "ws")], "/"), true));
        for other in [
            opener("10.0.0.2", &[AGENT], "/"),
            opener("10.0.0.1", &[("user-agent", "two")], "/"),
        ] {
            assert!(!own(&other, false));
        }
        let header = ("authorization", "Bearer abc");
        let owner = opener("10.0.0.1", &[header], "/");
        let bare = opener("10.0.0.1", &[], "/");
        assert!(owner.is_also(&bare, true, SessionBinding::Address));
        assert!(!owner.is_also(&bare, false, SessionBinding::Address));
    }
}
