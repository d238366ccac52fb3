//! The back end as a program, which can be stopped: `LISTEN` is its address.

use std::env;
use std::net::TcpListener;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let address = env::var("LISTEN").context("LISTEN must be an address and a port")?;
    let listener =
        TcpListener::bind(&address).with_context(|| format!("{address} cannot be used"))?;
    load::back_end::serve(&listener);
    Ok(())
}
