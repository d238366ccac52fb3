//! The commands that read and write dumps of accounts.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write as _},
    path::Path,
};

use anyhow::Context as _;

use super::{Failure, print_line};
use crate::{
    config::Settings,
    users::{self, Administration, ChangeError, ImportReport},
};

/// Size of the part of a dump that is read at a time, in bytes.
const CHUNK: usize = 64 * 1024;

/// Imports a dump, and names each line that is not taken.
pub(super) async fn import(
    settings: &Settings,
    file: &Path,
    firebase_config: Option<&Path>,
) -> Result<(), Failure> {
    let mut input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()));
        Box::new(opened?)
    };
    let config = firebase_config.map(read_config).transpose()?;
    let report = users::administer(settings, async |administration| {
        Ok(feed(&administration, config, &mut input).await?)
    })
    .await
    .map_err(Failure::other)?;
    for refused in &report.lines {
        print_line(&format!("line {}: {}", refused.line, refused.detail))?;
    }
    let summary = format!(
        "imported {} accounts, refused {} lines",
        report.imported, report.refused
    );
    print_line(&summary)?;
    match report.refused {
        0 => Ok(()),
        _ => Err(Failure::Other("some lines were not imported".to_owned())),
    }
}

async fn feed(
    administration: &Administration<'_>,
    config: Option<Vec<u8>>,
    input: &mut impl Read,
) -> anyhow::Result<ImportReport> {
    let mut import = administration.import()?;
    if let Some(config) = config {
        import.configure(&config)?;
    }
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = input.read(&mut chunk).context("cannot read the dump")?;
        match chunk.get(..length) {
            Some(bytes) if length > 0 => import.feed(bytes).await?,
            _ => return import.finish().await,
        }
    }
}

fn read_config(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    Ok(read?)
}

/// Writes all accounts to stdout.
pub(super) async fn export(settings: &Settings, with_hashes: bool) -> Result<(), Failure> {
    let mut output = BufWriter::new(io::stdout().lock());
    users::administer(settings, async |administration| {
        let write = |line: &str| writeln!(output, "{line}").context("cannot write the dump");
        administration.export(with_hashes, write).await?;
        output.flush().context("cannot write the dump")?;
        Ok::<_, ChangeError>(())
    })
    .await
    .map_err(Failure::other)
}
