//! The tests of an issuer whose keys are published.
