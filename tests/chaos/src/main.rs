//! `cargo chaos`: harms a cluster, and judges it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match chaos::command::run(std::env::args_os()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}
