//! The texts of mails: built-in templates, each of which a file can replace.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::Context as _;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use zeroize::Zeroizing;

use super::Text;
use crate::store::MailKind;

/// Maximum length of a subject, in characters (RFC 5322, section 2.1.1, has lines of 998).
const SUBJECT_CHARACTERS: usize = 200;

/// The parts of a mail, by the end of the template's name. Values are escaped in `.html` alone.
const PARTS: [&str; 3] = ["subject.txt", "txt", "html"];

/// The values that a template can use.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Words<'a> {
    /// The name to sign in with.
    pub(super) username: &'a str,
    /// The person's name, or the name to sign in with.
    pub(super) name: &'a str,
    /// The address that the mail goes to.
    pub(super) email: &'a str,
    /// The setting `app_url`.
    pub(super) app_url: &'a str,
    /// The link; empty in a mail without one.
    pub(super) link: &'a str,
    /// Lifetime of the link.
    pub(super) minutes: i64,
}

/// The templates of all mails.
pub(super) struct Templates(Environment<'static>);

impl Templates {
    /// Reads the templates from a directory. Built-in ones replace those that are missing there; an
    /// empty path means all of them.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or is no template for these values.
    pub(super) fn open(directory: &Path) -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        // A misspelled value is an error at the start, and not a hole in a mail.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for kind in MailKind::ALL {
            for part in PARTS {
                let name = format!("{}.{part}", kind.name());
                let text = match read(directory, &name)? {
                    Some(text) => text,
                    None => built_in(kind, part).to_owned(),
                };
                let error = format!("the template {name}");
                environment.add_template_owned(name, text).context(error)?;
            }
        }
        let templates = Self(environment);
        let sample = Words {
            username: "alice",
            name: "Alice",
            email: "alice@example.org",
            app_url: "https://app.example.org/",
            link: "https://app.example.org/#reset=0",
            minutes: 30,
        };
        for kind in MailKind::ALL {
            templates.render(kind, &sample)?;
        }
        Ok(templates)
    }

    /// Returns the text of a mail.
    ///
    /// # Errors
    ///
    /// When a template cannot take these values.
    pub(super) fn render(&self, kind: MailKind, words: &Words<'_>) -> anyhow::Result<Text> {
        let [subject, plain, html] = PARTS.map(|part| self.part(kind, part, words));
        Ok(Text {
            subject: one_line(&subject?),
            plain: plain?,
            html: html?,
        })
    }

    fn part(
        &self,
        kind: MailKind,
        part: &str,
        words: &Words<'_>,
    ) -> anyhow::Result<Zeroizing<String>> {
        let name = format!("{}.{part}", kind.name());
        let template = self.0.get_template(&name)?;
        // The error of the engine may show a value.
        let rendered = template.render(words).ok();
        let rendered =
            rendered.with_context(|| format!("the template {name} uses other values"))?;
        Ok(Zeroizing::new(rendered))
    }
}

fn read(directory: &Path, name: &str) -> anyhow::Result<Option<String>> {
    if directory.as_os_str().is_empty() {
        return Ok(None);
    }
    let path = directory.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound && directory.is_dir() => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Returns a text as one line without control characters, since a header ends where its line does, and
/// without the beginning of an encoded word (RFC 2047), which a reader would decode to another text.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let line = words.join(" ").replace("=?", "= ?");
    line.chars().take(SUBJECT_CHARACTERS).collect()
}

fn built_in(kind: MailKind, part: &str) -> &'static str {
    let [subject, plain, html] = match kind {
        MailKind::VerifyEmail => [
            include_str!("templates/verify_email.subject.txt"),
            include_str!("templates/verify_email.txt"),
            include_str!("templates/verify_email.html"),
        ],
        MailKind::ResetPassword => [
            include_str!("templates/reset_password.subject.txt"),
            include_str!("templates/reset_password.txt"),
            include_str!("templates/reset_password.html"),
        ],
        MailKind::EmailChangeRequested => [
            include_str!("templates/email_change_requested.subject.txt"),
            include_str!("templates/email_change_requested.txt"),
            include_str!("templates/email_change_requested.html"),
        ],
        MailKind::PasswordChanged => [
            include_str!("templates/password_changed.subject.txt"),
            include_str!("templates/password_changed.txt"),
            include_str!("templates/password_changed.html"),
        ],
        MailKind::PasskeyAdded => [
            include_str!("templates/passkey_added.subject.txt"),
            include_str!("templates/passkey_added.txt"),
            include_str!("templates/passkey_added.html"),
        ],
    };
    match part {
        "html" => html,
        "txt" => plain,
        _ => subject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words<'static> = Words {
        username: "alice+1",
        name: "<b>Alice</b>\r\nBcc: eve@example.net",
        email: "alice@example.org",
        app_url: "https://app.example.org/",
        link: "https://app.example.org/#reset=T0ken",
        minutes: 30,
    };

    fn with(name: &str, text: &str) -> anyhow::Result<Templates> {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(name), text).expect("a file");
        Templates::open(directory.path())
    }

    #[test]
    fn every_built_in_mail_has_its_link_in_both_forms_or_none_at_all() {
        let templates = Templates::open(Path::new("")).expect("templates");
        for kind in MailKind::ALL {
            let text = templates.render(kind, &WORDS).expect("a text");
            let notices = [
                MailKind::EmailChangeRequested,
                MailKind::PasswordChanged,
                MailKind::PasskeyAdded,
            ];
            let has_link = !notices.contains(&kind);
            assert!(!text.subject.is_empty() && !text.subject.contains("T0ken"));
            assert_eq!(text.plain.contains(WORDS.link), has_link, "{kind:?}");
            assert_eq!(text.html.contains("#reset=T0ken"), has_link, "{kind:?}");
            // A reader who follows the link learns whose account gets the address.
            assert!(text.plain.contains("alice+1") && text.html.contains("<b>alice+1</b>"));
            // The person's name is anybody's to choose, and goes to an address that may be another's.
            assert!(!text.plain.contains("Bcc") && !text.html.contains("Bcc"));
        }
    }

    #[test]
    fn a_file_replaces_a_template_and_its_values_are_escaped_in_html_alone() {
        let text = |name, template| {
            let templates = with(name, template).expect("templates");
            templates
                .render(MailKind::ResetPassword, &WORDS)
                .expect("a text")
        };
        let html = text("reset_password.html", "Hello {{ name }}").html;
        assert!(html.contains("&lt;b&gt;Alice"), "{}", html.as_str());
        let plain = text("reset_password.txt", "Hello {{ name }}").plain;
        assert!(plain.contains("<b>Alice"), "{}", plain.as_str());
        let subject = text("reset_password.subject.txt", "For {{ name }}\n\n\0!").subject;
        assert_eq!(subject, "For <b>Alice</b> Bcc: eve@example.net !");
        let subject = text("reset_password.subject.txt", "=?utf-8?q?=0D=0A?=").subject;
        assert_eq!(subject, "= ?utf-8?q?=0D=0A?=");
    }

    #[test]
    fn a_template_that_cannot_be_used_is_found_at_the_start() {
        for bad in ["{{ passwort }}", "{% if %}", "{{ name.first }}"] {
            let error = with("verify_email.txt", bad).err().expect(bad);
            assert!(
                format!("{error:#}").contains("verify_email.txt"),
                "{error:#}"
            );
        }
        assert!(with("verify_email.txt", "{{ name }}").is_ok());
        assert!(Templates::open(Path::new("/nonexistent")).is_err());
    }
}
