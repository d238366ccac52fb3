//! The binary: parse, and do what was asked; everything else is in the library.

use std::process::ExitCode;

use auth_service::cli::{self, Cli};
use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // An error means that a provider is there already, which is all that is asked for.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    match cli::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("auth-service: {failure}");
            failure.exit_code()
        }
    }
}
