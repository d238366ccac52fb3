//! Who asks: where a request comes from, and what the device calls itself.

use std::{
    future::{Ready, ready},
    net::{IpAddr, Ipv4Addr},
};

use actix_web::{FromRequest, HttpRequest, dev, http::header};

use crate::error::ApiError;

/// The longest name of a device that is kept, in characters.
const MAXIMUM_DEVICE_CHARACTERS: usize = 200;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// Where the request comes from.
    pub(crate) address: IpAddr,
    /// What the device calls itself, shortened, and without characters that hide or reorder text.
    pub(crate) device: String,
}

impl FromRequest for Visitor {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let address = request.peer_addr().map(|peer| peer.ip());
        let agent = request.headers().get(header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok());
        ready(Ok(Self {
            address: address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            device: shorten(agent.unwrap_or_default()),
        }))
    }
}

fn shorten(agent: &str) -> String {
    agent
        .chars()
        .filter(|character| character.is_ascii_graphic() || *character == ' ')
        .take(MAXIMUM_DEVICE_CHARACTERS)
        .collect()
}
