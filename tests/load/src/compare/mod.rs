//! stub
#[derive(clap::Args)]
pub(crate) struct Options {}
pub(crate) fn run(_options: &Options) -> anyhow::Result<bool> {
    Ok(true)
}
