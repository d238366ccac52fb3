//! The section of a document that has the figures of the cluster.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::figures::Figures;

const BEGIN: &str = "<!-- cargo load cluster -->\n";
const END: &str = "<!-- end of cargo load cluster -->\n";

/// Circumstances of the figures.
pub(super) struct Circumstances {
    pub(super) rounds: u32,
    pub(super) machine: Vec<(String, String)>,
    pub(super) versions: Vec<(String, String)>,
}

/// Writes the section into the document at `path`, instead of an earlier one or at the end.
///
/// # Errors
///
/// Returns an error if the file cannot be read or written. A file that is not there is empty.
pub(super) fn write(
    path: &Path,
    figures: &Figures,
    circumstances: &Circumstances,
) -> anyhow::Result<()> {
    let failed = || format!("the document {} cannot be written", path.display());
    let text = match path.exists() {
        true => fs::read_to_string(path).with_context(failed)?,
        false => String::new(),
    };
    fs::write(path, put(&text, &render(figures, circumstances))).with_context(failed)
}

/// Returns the section of a document, with its marks.
pub(in crate::compare) fn of(document: &str) -> Option<&str> {
    let begin = document.find(BEGIN)?;
    let length = document[begin..].find(END)? + END.len();
    Some(&document[begin..begin + length])
}

fn put(document: &str, section: &str) -> String {
    match of(document) {
        Some(former) => document.replacen(former, section, 1),
        None => format!("{document}\n{section}"),
    }
}

fn render(figures: &Figures, circumstances: &Circumstances) -> String {
    let mut text = format!("{BEGIN}## Several gateways and one Redis\n\n");
    let _ = writeln!(
        text,
        "`cargo load cluster` writes this section. All servers and Redis share the first core, and the load generator\n\
         has the last. Figures are medians of {} rounds. CPU time is that of the gateways, without Redis. The peers on\n\
         Node have no common history and no common offsets.\n",
        circumstances.rounds
    );
    text.push_str(&figures.table());
    text.push('\n');
    let facts = circumstances.machine.iter().chain(&circumstances.versions);
    let facts: Vec<_> = facts
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let _ = writeln!(text, "{}.", facts.join("; "));
    text.push_str(END);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_the_former_one() {
        let section = |text: &str| format!("{BEGIN}{text}\n{END}");
        let document = put("# Page\n", &section("one"));
        assert_eq!(of(&document), Some(&*section("one")));
        let document = put(&format!("{document}\n## Other\n"), &section("two"));
        assert_eq!(
            document,
            format!("# Page\n\n{}\n## Other\n", section("two"))
        );
        assert_eq!(of("# Page\n"), None);
    }
}
