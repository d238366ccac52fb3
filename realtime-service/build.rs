//! Embeds the stock Socket.IO client in the gateway's page when `npm ci` has been run in `console/`.

use std::{env, error::Error, fs, path::Path};

const CONSOLE: &str = "console";
const CLIENT: &str = "console/node_modules/socket.io-client/dist/socket.io.min.js";

fn main() -> Result<(), Box<dyn Error>> {
    // The whole directory: naming the bundle itself would run this on every build for as long as it is missing,
    // while its coming and going changes the directory.
    println!("cargo::rerun-if-changed={CONSOLE}");
    println!("cargo::rerun-if-changed=build.rs");

    let out_dir = env::var("OUT_DIR")?;
    let out_dir = Path::new(&out_dir);
    let embedded = if Path::new(CLIENT).is_file() {
        fs::copy(CLIENT, out_dir.join("socket.io.min.js"))?;
        r#"Some(include_str!("socket.io.min.js"))"#
    } else {
        "None"
    };
    fs::write(out_dir.join("embedded_client.rs"), embedded)?;
    Ok(())
}
