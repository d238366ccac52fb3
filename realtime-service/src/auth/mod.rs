//! Who a client is and what it may do: credentials, keys, the policy and revocations.

mod credentials;
pub mod keys;
pub mod policy;
pub mod revocations;

pub use self::credentials::{Payload, find_token, token_of_text};
