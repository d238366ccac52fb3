//! `cargo dev`: builds both services, starts them with a secret, a database and two demo users
//! of their own, and stops them on Ctrl-C.
//!
//! Settings, all optional: `AUTH_PORT` (8080), `REALTIME_PORT` (9000) and `API_PORT` (9001), as for
//! docker compose, and `DEV_DIR` (`.dev`), where the secret and the database live.

mod build;
mod console;
mod home;
mod services;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo dev: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let settings = settings::Settings::from_env()?;
    settings.auth.must_be_free()?;
    settings.realtime.must_be_free()?;
    settings.api.must_be_free()?;

    console::install_client(&settings.root);
    let binaries = build::build(&settings.root)?;
    home::prepare(&settings, &binaries.auth)?;
    services::run(&settings, &binaries)
}
