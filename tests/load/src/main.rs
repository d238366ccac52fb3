//! `cargo load`: measures one Socket.IO server, or compares ours with others.

use std::process::ExitCode;

fn main() -> ExitCode {
    match load::command::run(std::env::args_os()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
