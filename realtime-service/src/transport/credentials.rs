//! The credentials that an Engine.IO request carries.
//!
//! The fuzz target for the payload of CONNECT compiles this file alone.

use http::HeaderValue;

/// What the requests of a session carry as credentials. It has no `Debug`: it holds tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RequestCredentials {
    /// Every `Authorization` header.
    pub authorization: Vec<HeaderValue>,
    /// Every `token` in the query.
    pub query_tokens: Vec<String>,
    /// The values of the cookie that holds a token, from a page whose origin is listed.
    pub cookies: Vec<String>,
}
