//! The question before a command makes a new database: the running service may have another one.

use std::{
    io::{self, BufRead, IsTerminal as _, Write},
    path::{Path, absolute},
};

use super::Failure;
use crate::{config::DatabaseUrl, store::Store};

/// Makes sure that there is a file with a database, and makes it when a person on the terminal wants a new one.
///
/// # Errors
///
/// When the SQLite file is missing or empty, and there is no terminal to ask at, the answer is not yes, or the
/// database cannot be made.
pub(super) async fn require(url: &DatabaseUrl) -> Result<(), Failure> {
    let Some(path) = url.sqlite_path().filter(|path| is_new(path)) else {
        return Ok(());
    };
    let path = absolute(&path).unwrap_or(path);
    let stdin = io::stdin();
    if stdin.is_terminal() && is_wanted(&path, &mut stdin.lock(), &mut io::stderr())? {
        let made = Store::open(url).await.map_err(Failure::other)?;
        made.close().await;
        return Ok(());
    }
    Err(Failure::Configuration(format!(
        "there is no database at {}: set AUTH__DATABASE_URL to the one of the running service, or make a new one with \
         `auth-service migrate`",
        path.display()
    )))
}

/// Whether the file is missing or empty: SQLite makes a database of both.
fn is_new(path: &Path) -> bool {
    path.metadata().map_or(true, |data| data.len() == 0)
}

/// Asks whether a new database is wanted. Everything but `y` and `yes` is a no.
fn is_wanted(
    path: &Path,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<bool, Failure> {
    let question = format!(
        "There is no database at {}. A running service with another database will not see this change.\n\
         Make a new database there? [y/N] ",
        path.display()
    );
    let asked = output
        .write_all(question.as_bytes())
        .and_then(|()| output.flush());
    asked.map_err(Failure::other)?;
    let mut answer = String::new();
    input.read_line(&mut answer).map_err(Failure::other)?;
    let answer = answer.trim();
    Ok(answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_names_the_file_and_takes_a_yes_alone() {
        for (answer, expected) in [
            ("y\n", true),
            ("YES\n", true),
            ("\n", false),
            ("", false),
            ("no\n", false),
            ("yesterday\n", false),
        ] {
            let mut shown = Vec::new();
            let wanted = is_wanted(Path::new("/v/new.db"), &mut answer.as_bytes(), &mut shown);
            assert_eq!(wanted.expect("an answer"), expected, "{answer:?}");
            let shown = String::from_utf8(shown).expect("text");
            assert!(
                shown.starts_with("There is no database at /v/new.db. "),
                "{shown}"
            );
        }
    }
}
