//! Embeds the stock Socket.IO client in the gateway when `npm ci` has been run in `console/`.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

const CONSOLE: &str = "console";
const CLIENT: &str = "console/node_modules/socket.io-client/dist";

/// The bundles that the gateway serves, and the page loads one of. Each has a source map beside it.
const BUNDLES: [&str; 3] = ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js"];

fn main() -> Result<(), Box<dyn Error>> {
    // The whole directory: naming a bundle itself would run this on every build for as long as it is missing,
    // while its coming and going changes the directory.
    println!("cargo::rerun-if-changed={CONSOLE}");
    println!("cargo::rerun-if-changed=build.rs");

    let out_dir = env::var("OUT_DIR")?;
    let out_dir = Path::new(&out_dir);
    let mut embedded = String::from("&[");
    if Path::new(CLIENT).is_dir() {
        for bundle in BUNDLES {
            for name in [bundle.to_owned(), format!("{bundle}.map")] {
                fs::copy(Path::new(CLIENT).join(&name), out_dir.join(&name))?;
                write!(embedded, "({name:?}, include_bytes!({name:?})),")?;
            }
        }
    }
    embedded.push(']');
    fs::write(out_dir.join("embedded_client.rs"), embedded)?;
    Ok(())
}
