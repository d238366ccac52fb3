//! The refresh token as a cookie, for pages: their code cannot read it, and no other site can use
//! it.

use actix_web::{
    HttpRequest,
    cookie::{Cookie, SameSite, time::Duration},
    http::header,
};

use crate::{config::Settings, error::ApiError};

/// The cookie's name. With this prefix a browser takes it from this host alone, over TLS alone
/// (RFC 6265bis, section 4.1.3.2), so that no neighbouring host can put its own in place of it.
pub(crate) const REFRESH_COOKIE: &str = "__Host-latchkey-refresh";

/// The header that a page sends with everything that uses the cookie. A form cannot send it, and
/// the script of an unlisted page has to ask us first.
pub(crate) const PAGE_HEADER: &str = "x-latchkey";

/// The cookie with a refresh token that ends in so many seconds.
pub(crate) fn refresh_cookie(token: &str, lifetime_secs: i64) -> Cookie<'static> {
    Cookie::build(REFRESH_COOKIE, token.to_owned())
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(Duration::seconds(lifetime_secs))
        .finish()
}

/// The cookie that takes the place of the other and is gone at once.
pub(crate) fn no_refresh_cookie() -> Cookie<'static> {
    refresh_cookie("", 0)
}

/// The refresh token in the request's cookies.
///
/// # Errors
///
/// When there are two: one of them is somebody else's.
pub(crate) fn refresh_token(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let Ok(cookies) = request.cookies() else {
        return Ok(None);
    };
    let mut values = cookies
        .iter()
        .filter(|cookie| cookie.name() == REFRESH_COOKIE)
        .map(|cookie| cookie.value().to_owned());
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(ApiError::InvalidRequest(
            "there is more than one refresh token".into(),
        )),
        (value, None) => Ok(value),
    }
}

/// Makes sure that a listed page asks, and not another one with somebody's cookie.
///
/// # Errors
///
/// [`ApiError::PageForbidden`] when the `Origin` is missing or not on the list, when the browser
/// says that the page is of another site, or when the header [`PAGE_HEADER`] is missing.
pub(crate) fn require_listed_page(
    request: &HttpRequest,
    settings: &Settings,
) -> Result<(), ApiError> {
    let headers = request.headers();
    let one = |name: &str| {
        let mut values = headers.get_all(name).map(|value| value.to_str().ok());
        match (values.next(), values.next()) {
            (Some(value), None) => value,
            _ => None,
        }
    };
    let is_listed = one(header::ORIGIN.as_str())
        .is_some_and(|origin| settings.origins.iter().any(|listed| listed == origin));
    let is_same_site = !headers.contains_key("sec-fetch-site")
        || one("sec-fetch-site").is_some_and(|site| matches!(site, "same-origin" | "same-site"));
    let is_script = one(PAGE_HEADER) == Some("1");
    if is_listed && is_same_site && is_script {
        Ok(())
    } else {
        Err(ApiError::PageForbidden)
    }
}
