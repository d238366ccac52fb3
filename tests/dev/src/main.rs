//! `cargo dev`: builds both services, starts them with a secret, a database and two demo users
//! of their own, and stops them on Ctrl-C.
//!
//! Settings, all optional: `AUTH_PORT` (8080), `REALTIME_PORT` (9000) and `API_PORT` (9001), as for
//! docker compose, and `DEV_DIR` (`.dev`), where the secret and the database live. The services' own settings, as
//! variables or in the files of `--auth-config` and `--realtime-config`, are kept: what this program needs is added.

mod build;
mod console;
mod effective;
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
    let mut settings = settings::Settings::from_env(std::env::args().skip(1))?;
    settings.ports_must_be_free()?;

    console::install_client(&settings.root);
    println!("cargo dev: building both services; the first build takes some minutes");
    let binaries = build::build(&settings.root)?;
    println!("cargo dev: preparing the accounts in {}", settings.dir);
    home::make_secret(&settings, &binaries.auth)?;
    settings.read_made(&binaries)?;
    home::prepare(&settings, &binaries.auth)?;
    services::run(&settings, &binaries)
}
