//! The binary: parse, and do what was asked; everything else is in the library.

use std::process::ExitCode;

use auth_service::cli::{self, Cli};
use clap::Parser as _;
use mimalloc::MiMalloc;

/// Argon2 reads its memory at random, which is faster in the large pages that this one asks for.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
