//! Sections of a document that have figures of one command each.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::machine;

/// A section.
pub(super) struct Section {
    /// The command that writes it.
    pub(super) command: &'static str,
    pub(super) title: &'static str,
    /// The measurement, in lines.
    pub(super) introduction: &'static str,
}

/// All sections, in their order at the end of a document.
pub(super) const ALL: [&Section; 2] = [&super::cluster::SECTION, &super::backends::SECTION];

impl Section {
    fn begin(&self) -> String {
        format!("<!-- {} -->\n", self.command)
    }

    fn end(&self) -> String {
        format!("<!-- end of {} -->\n", self.command)
    }

    /// Writes the section with a table of figures into the document at `path`, instead of an earlier one or
    /// at the end. `root` is that of the repository.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or written. A file that is not there is empty.
    pub(super) fn write(
        &self,
        path: &Path,
        root: &Path,
        (table, rounds): (&str, u32),
    ) -> anyhow::Result<()> {
        let failed = || format!("the document {} cannot be written", path.display());
        let text = match path.exists() {
            true => fs::read_to_string(path).with_context(failed)?,
            false => String::new(),
        };
        let section = self.render(root, (table, rounds));
        fs::write(path, self.put(&text, &section)).with_context(failed)
    }

    /// Returns the section of a document, with its marks.
    pub(super) fn of<'a>(&self, document: &'a str) -> Option<&'a str> {
        let (mark, end) = (self.begin(), self.end());
        let begin = document.find(&mark)?;
        let length = document[begin..].find(&end)? + end.len();
        Some(&document[begin..begin + length])
    }

    fn put(&self, document: &str, section: &str) -> String {
        match self.of(document) {
            Some(former) => document.replacen(former, section, 1),
            None => format!("{document}\n{section}"),
        }
    }

    fn render(&self, root: &Path, (table, rounds): (&str, u32)) -> String {
        let mut text = format!("{}## {}\n\n", self.begin(), self.title);
        let _ = writeln!(
            text,
            "`{}` writes this section. {}\nFigures are medians; rounds: {rounds}.\n",
            self.command, self.introduction
        );
        text.push_str(table);
        text.push('\n');
        let facts = machine::describe().into_iter();
        let facts = facts.chain(machine::versions(root, None));
        let facts: Vec<_> = facts
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let _ = writeln!(text, "{}.", facts.join("; "));
        text.push_str(&self.end());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_the_former_one() {
        let [one, other] = ALL;
        let section = |text: &str| format!("{}{text}\n{}", one.begin(), one.end());
        let document = one.put("# Page\n", &section("one"));
        assert_eq!(one.of(&document), Some(&*section("one")));
        let document = one.put(&format!("{document}\n## Other\n"), &section("two"));
        assert_eq!(
            document,
            format!("# Page\n\n{}\n## Other\n", section("two"))
        );
        assert_eq!(one.of("# Page\n"), None);
        assert_eq!(other.of(&document), None);
    }
}
