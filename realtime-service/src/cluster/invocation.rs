//! A script with its keys and arguments, encoded as one command.

use std::fmt;

use redis::{
    Cmd, ErrorKind, FromRedisValue, RedisResult, RedisWrite as _, Script, ServerErrorKind,
    ToRedisArgs, from_redis_value,
};

use super::connection::Connection;

/// Number of arguments and of their bytes for which there is room at first, without the longest argument.
const ARGUMENTS: usize = 24;
const BYTES: usize = 512;

/// A script with its keys and arguments.
pub struct Invocation {
    script: &'static Script,
    command: Cmd,
}

impl Invocation {
    /// Begins an invocation: `keys` keys follow, and then the arguments, of which the longest has `bytes` bytes.
    #[must_use]
    pub fn new(script: &'static Script, keys: usize, bytes: usize) -> Self {
        let mut command = Cmd::with_capacity(ARGUMENTS, BYTES + bytes);
        command.arg("EVALSHA").arg(script.get_hash()).arg(keys);
        Self { script, command }
    }

    /// Appends a key or an argument.
    pub fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }

    /// Appends a text as a key or an argument.
    pub fn text(&mut self, text: fmt::Arguments<'_>) -> &mut Self {
        self.command.write_arg_fmt(text);
        self
    }

    /// Runs the script, which is loaded when the server does not have it.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or the script fails.
    pub(super) async fn run<T: FromRedisValue>(&self, connection: &Connection) -> RedisResult<T> {
        let mut answer = connection.send(&self.command).await?.extract_error();
        if matches!(&answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
        {
            self.script.load_async(&mut connection.clone()).await?;
            answer = connection.send(&self.command).await?.extract_error();
        }
        Ok(from_redis_value(answer?)?)
    }
}
