//! The commands about accounts. They need no secret: nothing is signed.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use shared_claims::claims::Profile;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    EditUserArgs, Failure, NewUserArgs, PasswordSource, UserCommand, claims, dump, grant,
    print_line,
};
use crate::{
    config::Settings,
    credentials::{MAXIMUM_PASSWORD_BYTES, MAXIMUM_USERNAME_BYTES, Password, Username},
    store::Account,
    users::{self, Administration, ChangeError, NewUser, ProfileEdit, grants::Subject},
};

pub(super) async fn run(settings: &Settings, command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add(arguments) => add(settings, arguments).await,
        UserCommand::List => list(settings).await,
        UserCommand::Passwd { name, source } => {
            let username = parse_name(&name)?;
            let password = source.read()?;
            users::set_password(settings, &username, password)
                .await
                .map_err(Failure::other)?;
            print_line(&format!("changed the password of {}", username.as_str()))
        }
        UserCommand::ResetTotp { name } => {
            let username = parse_name(&name)?;
            users::reset_second_factor(settings, &username)
                .await
                .map_err(Failure::other)?;
            print_line(&format!("reset the second factor of {}", username.as_str()))
        }
        UserCommand::Grant(command) => {
            let subject = |name: String| parse_name(&name).map(Subject::User);
            grant::run(settings, command, subject).await
        }
        UserCommand::Claims(command) => claims::run(settings, command, parse_name).await,
        UserCommand::Import {
            file,
            firebase_config,
        } => dump::import(settings, &file, firebase_config.as_deref()).await,
        UserCommand::Export { with_hashes } => dump::export(settings, with_hashes).await,
        UserCommand::Edit(arguments) => edit(settings, arguments).await,
        UserCommand::Disable { name } => {
            let disable = async |users: Administration<'_>, id: &str| users.disable(id).await;
            manage(settings, &name, disable).await?;
            print_line(&format!("disabled {}", parse_name(&name)?.as_str()))
        }
        UserCommand::Enable { name } => {
            let enable = async |users: Administration<'_>, id: &str| users.enable(id).await;
            manage(settings, &name, enable).await?;
            print_line(&format!("enabled {}", parse_name(&name)?.as_str()))
        }
        UserCommand::Logout { name } => {
            let end = async |users: Administration<'_>, id: &str| users.end_sessions(id).await;
            let count = manage(settings, &name, end).await?;
            print_line(&format!(
                "ended {count} sessions of {}",
                parse_name(&name)?.as_str()
            ))
        }
        UserCommand::Delete { name, yes } => {
            if !yes {
                confirm(&parse_name(&name)?)?;
            }
            let delete =
                async |users: Administration<'_>, id: &str| users.delete(id, |_| true).await;
            manage(settings, &name, delete).await?;
            print_line(&format!("deleted {}", parse_name(&name)?.as_str()))
        }
    }
}

/// Does `work` with the account of a name.
async fn manage<T>(
    settings: &Settings,
    name: &str,
    work: impl AsyncFnOnce(Administration<'_>, &str) -> Result<T, ChangeError>,
) -> Result<T, Failure> {
    let username = parse_name(name)?;
    users::administer(settings, async |users| {
        let account = users.find_by_name(&username).await?;
        work(users, &account.id).await
    })
    .await
    .map_err(Failure::other)
}

/// Asks on a terminal whether an account is to be deleted.
fn confirm(username: &Username) -> Result<(), Failure> {
    let refuse = || Failure::Other("not deleted; --yes deletes without a question".to_owned());
    if !io::stdin().is_terminal() {
        return Err(refuse());
    }
    eprint!("Type the name to delete {}: ", username.as_str());
    let mut line = String::new();
    let limit = MAXIMUM_USERNAME_BYTES + 3;
    io::stdin()
        .lock()
        .take(limit as u64)
        .read_line(&mut line)
        .map_err(|error| Failure::Other(format!("cannot read the answer: {error}")))?;
    (line.trim_end() == username.as_str())
        .then_some(())
        .ok_or_else(refuse)
}

async fn edit(settings: &Settings, arguments: EditUserArgs) -> Result<(), Failure> {
    let EditUserArgs {
        username,
        name,
        given_name,
        family_name,
        email,
        email_verified,
    } = arguments;
    let part = |text: Option<String>| text.map(|text| Some(text).filter(|text| !text.is_empty()));
    let edit = ProfileEdit {
        name: part(name),
        given_name: part(given_name),
        family_name: part(family_name),
        email: part(email),
        email_verified,
    };
    let apply = async |users: Administration<'_>, id: &str| users.edit(id, edit, |_| true).await;
    let edited = manage(settings, &username, apply).await?;
    print_line(&format!("edited {}", edited.account.username))
}

async fn add(settings: &Settings, arguments: NewUserArgs) -> Result<(), Failure> {
    let username = parse_name(&arguments.username)?;
    let password = arguments.source.read()?;
    let added = format!("added {}", username.as_str());
    let user = NewUser {
        username,
        password,
        profile: Profile {
            preferred_username: None,
            name: arguments.name,
            given_name: arguments.given_name,
            family_name: arguments.family_name,
            email: arguments.email,
            email_verified: Some(arguments.email_verified),
        },
    };
    users::add_user(settings, user)
        .await
        .map_err(Failure::other)?;
    print_line(&added)
}

async fn list(settings: &Settings) -> Result<(), Failure> {
    let accounts = users::list_users(settings).await?;
    let width = accounts
        .iter()
        .map(|account| account.username.len())
        .max()
        .unwrap_or(0)
        .max("NAME".len());
    let mut lines = vec![format!(
        "{:width$}  {:22}  {:8}  CREATED",
        "NAME", "ID", "STATE"
    )];
    lines.extend(accounts.iter().map(|account| row(account, width)));
    print_line(&lines.join("\n"))
}

fn row(account: &Account, width: usize) -> String {
    let state = match account.disabled_at {
        None => "active",
        Some(_) => "disabled",
    };
    let created = date(account.created_at);
    let Account { username, id, .. } = account;
    format!("{username:width$}  {id:22}  {state:8}  {created}")
}

/// The day of a Unix time, in UTC; the seconds themselves beyond the year 9999.
fn date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| seconds.to_string(), |time| time.date().to_string())
}

pub(super) fn parse_name(text: &str) -> Result<Username, Failure> {
    Username::parse(text).map_err(Failure::other)
}

impl PasswordSource {
    /// Asks twice on a terminal, and reads one line otherwise.
    fn read(&self) -> Result<Password, Failure> {
        let text = if self.password_stdin || !io::stdin().is_terminal() {
            read_line()?
        } else {
            ask_twice()?
        };
        Password::parse(text).map_err(Failure::other)
    }
}

fn read_line() -> Result<Zeroizing<String>, Failure> {
    // One byte more than a password and its line break, so that a longer one is seen to be.
    let limit = MAXIMUM_PASSWORD_BYTES + 3;
    let mut line = Zeroizing::new(String::with_capacity(limit));
    io::stdin()
        .lock()
        .take(limit as u64)
        .read_line(&mut line)
        .map_err(|error| Failure::Other(format!("cannot read the password: {error}")))?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}

fn ask_twice() -> Result<Zeroizing<String>, Failure> {
    let ask = |prompt| {
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(|error| Failure::Other(format!("cannot read the password: {error}")))
    };
    let first = ask("Password: ")?;
    if *ask("Again: ")? != *first {
        return Err(Failure::Other("the two passwords differ".to_owned()));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_utc_and_any_number_has_a_text() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_735_689_599, "2024-12-31"),
            (-1, "1969-12-31"),
            (i64::MAX, "9223372036854775807"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }
}
