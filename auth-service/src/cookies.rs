//! The refresh token as a cookie, for pages: their code cannot read it, and no other site can use
//! it.

use actix_web::{
    HttpRequest,
    cookie::{Cookie, SameSite, time::Duration},
    http::header::{self, HeaderMap},
};

use shared_claims::origin::OriginList;

use crate::error::ApiError;

/// The cookie's name. With this prefix a browser takes it from this host alone, over TLS alone
/// (RFC 6265bis, section 4.1.3.2), so that no neighbouring host can put its own in place of it. The
/// prefix demands `Path=/`: a browser sends the cookie to every server of the host.
pub(crate) const REFRESH_COOKIE: &str = "__Host-latchkey-refresh";

/// The header that a page sends with everything that uses the cookie. A form cannot send it, and
/// the script of an unlisted page has to ask us first.
pub(crate) const PAGE_HEADER: &str = "x-latchkey";

/// The cookie by which a device shows that it has signed in before.
pub(crate) const DEVICE_COOKIE: &str = "__Host-latchkey-device";

/// A cookie that this host alone gets back, over TLS alone, in requests of its own site alone, for
/// so many seconds.
pub(crate) fn private_cookie(name: &'static str, value: &str, secs: i64) -> Cookie<'static> {
    Cookie::build(name, value.to_owned())
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(Duration::seconds(secs))
        .finish()
}

/// The cookie that takes the place of the refresh token and is gone at once.
pub(crate) fn no_refresh_cookie() -> Cookie<'static> {
    private_cookie(REFRESH_COOKIE, "", 0)
}

/// The values of the cookies with this name. A host nearby can add one of its own to ours.
pub(crate) fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers
        .get_all(header::COOKIE)
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        // What another page has set may be any bytes, and takes no other cookie with it.
        .filter_map(|pair| str::from_utf8(pair).ok()?.trim().split_once('='))
        .filter(|(own, _)| *own == name)
        .map(|(_, value)| value.to_owned())
        .collect()
}

/// The refresh token in the request's cookies.
///
/// # Errors
///
/// When there are two: one of them is somebody else's.
pub(crate) fn refresh_token(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = values(headers, REFRESH_COOKIE);
    if values.len() > 1 {
        return Err(ApiError::InvalidRequest(
            "there is more than one refresh token".into(),
        ));
    }
    Ok(values.pop())
}

/// Makes sure that a listed page asks, and not another one with somebody's cookie.
///
/// # Errors
///
/// [`ApiError::PageForbidden`] when the `Origin` is missing or not on the list, when the browser
/// says that the page is of another site, or when the header [`PAGE_HEADER`] is missing.
pub(crate) fn require_listed_page(
    request: &HttpRequest,
    origins: &OriginList,
) -> Result<(), ApiError> {
    let headers = request.headers();
    let one = |name: &str| {
        let mut values = headers.get_all(name).map(|value| value.to_str().ok());
        match (values.next(), values.next()) {
            (Some(value), None) => value,
            _ => None,
        }
    };
    let is_listed = one(header::ORIGIN.as_str()).is_some_and(|origin| origins.contains(origin));
    let is_same_site = !headers.contains_key("sec-fetch-site")
        || one("sec-fetch-site").is_some_and(|site| matches!(site, "same-origin" | "same-site"));
    let is_script = one(PAGE_HEADER) == Some("1");
    if is_listed && is_same_site && is_script {
        Ok(())
    } else {
        Err(ApiError::PageForbidden)
    }
}
