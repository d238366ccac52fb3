//! What the verifier takes and what it refuses. The rows are those of the attacks that an access
//! token of an issuer with a shared secret can meet; every refusal stands beside a token that is
//! accepted and differs in the attacked property alone.

mod claims;
mod encoding;
mod forge;
mod header;
mod jwks;
mod logout;
mod others;
mod shapes;
mod times;
