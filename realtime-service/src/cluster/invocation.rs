//! A script with its keys and arguments, encoded as one command.

use redis::{ErrorKind, FromRedisValue, RedisResult, Script, ServerErrorKind, from_redis_value};

use super::connection::Connection;

/// Room for a key or an argument at first, in bytes, without the longest argument.
const ARGUMENT_BYTES: usize = 32;

/// Size of the digits of the largest number, and of a line before a text or an array with the end of the line before.
const DIGITS: usize = 20;
const LINE_BYTES: usize = DIGITS + 5;

/// A script with its keys and arguments. The order of the keys and arguments is that in which they are appended.
pub struct Invocation {
    script: &'static Script,
    /// The command `EVALSHA` in the form of the protocol, without the end of its last line until nothing is missing.
    command: Vec<u8>,
    /// Number of keys and arguments that are to be appended.
    missing: usize,
}

impl Invocation {
    /// Begins an invocation with `keys` keys and then `arguments` arguments, of which the longest has `bytes` bytes.
    #[must_use]
    pub fn new(script: &'static Script, keys: usize, arguments: usize, bytes: usize) -> Self {
        let missing = keys + arguments + 3;
        let mut command = Vec::with_capacity(missing * ARGUMENT_BYTES + bytes);
        let mut line = [0; LINE_BYTES];
        // No line precedes the first one, and the next one ends it.
        let line = length_line(b'*', missing, &mut line);
        command.extend_from_slice(&line[2..line.len() - 2]);
        let mut invocation = Self {
            script,
            command,
            missing,
        };
        invocation.arg(&["EVALSHA"]).arg(&[script.get_hash()]);
        invocation.number(keys as u64);
        invocation
    }

    /// Appends a key or an argument, which is given in parts.
    pub fn arg(&mut self, parts: &[impl AsRef<[u8]>]) -> &mut Self {
        let length = parts.iter().map(|part| part.as_ref().len()).sum();
        let mut line = [0; LINE_BYTES];
        self.command
            .extend_from_slice(length_line(b'$', length, &mut line));
        for part in parts {
            self.command.extend_from_slice(part.as_ref());
        }
        self.missing -= 1;
        if self.missing == 0 {
            self.command.extend_from_slice(b"\r\n");
        }
        self
    }

    /// Appends a number as an argument.
    pub fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0; DIGITS];
        let start = write_digits(number, &mut digits);
        self.arg(&[&digits[start..]])
    }

    /// Runs the script, which is loaded when the server does not have it.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or the script fails.
    pub(super) async fn run<T: FromRedisValue>(&self, connection: &Connection) -> RedisResult<T> {
        debug_assert_eq!(self.missing, 0, "keys and arguments are missing");
        let mut answer = connection
            .send_encoded(&self.command)
            .await?
            .extract_error();
        if matches!(&answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
        {
            self.script.load_async(&mut connection.clone()).await?;
            answer = connection
                .send_encoded(&self.command)
                .await?
                .extract_error();
        }
        Ok(from_redis_value(answer?)?)
    }
}

/// Writes the line before a text or an array, with the end of the line before, to the end of `line`.
fn length_line(kind: u8, length: usize, line: &mut [u8; LINE_BYTES]) -> &[u8] {
    let end = LINE_BYTES - 2;
    line[end..].copy_from_slice(b"\r\n");
    let digits = write_digits(length as u64, &mut line[..end]);
    line[digits - 3..digits].copy_from_slice(&[b'\r', b'\n', kind]);
    &line[digits - 3..]
}

/// Writes a decimal number to the end of `digits`, and returns the place at which it begins.
fn write_digits(mut number: u64, digits: &mut [u8]) -> usize {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return start;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new("return 1"));

    #[test]
    fn an_invocation_is_encoded_as_the_library_encodes_commands() {
        let mut invocation = Invocation::new(&SCRIPT, 1, 4, 0);
        invocation.arg(&["a", ":b"]).arg(&[""]).arg(&[b"\r\n"]);
        invocation.number(0).number(u64::MAX);
        let mut expected = redis::cmd("EVALSHA");
        expected.arg(SCRIPT.get_hash()).arg(1).arg("a:b").arg("");
        expected.arg("\r\n").arg(0).arg(u64::MAX);
        assert_eq!(invocation.command, expected.get_packed_command());
        assert_eq!(invocation.missing, 0);
    }
}
