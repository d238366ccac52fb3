//! The runner as a process, in a directory and on ports of its own, and requests to what it starts.

use std::error::Error;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::{fs, process};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::TestResult;

/// Where one test's run lives.
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    pub(crate) auth_port: u16,
    pub(crate) realtime_port: u16,
    pub(crate) api_port: u16,
}

impl Home {
    pub(crate) fn new(name: &str) -> Result<Self, Box<dyn Error>> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id()));
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        // All three are held until each is known.
        let (auth, realtime, api) = (free()?, free()?, free()?);
        Ok(Self {
            dir,
            auth_port: auth.local_addr()?.port(),
            realtime_port: realtime.local_addr()?.port(),
            api_port: api.local_addr()?.port(),
        })
    }

    pub(crate) fn ports_must_be_free(&self) -> TestResult {
        for port in [self.auth_port, self.realtime_port, self.api_port] {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The runner, killed with its services if the test fails half-way.
pub(crate) struct Run {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Run {
    pub(crate) fn start(home: &Home) -> Result<Self, Box<dyn Error>> {
        Self::start_with(home, &[], &[])
    }

    pub(crate) fn start_with(
        home: &Home,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dev"))
            .args(arguments)
            .envs(variables.iter().copied())
            .env("DEV_DIR", &home.dir)
            .env("AUTH_PORT", home.auth_port.to_string())
            .env("REALTIME_PORT", home.realtime_port.to_string())
            .env("API_PORT", home.api_port.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        Ok(Self {
            child,
            lines: BufReader::new(output).lines(),
        })
    }

    /// Everything up to the line that contains `text`; the runner ends, and so does its output,
    /// when something goes wrong before.
    pub(crate) fn until(&mut self, text: &str) -> Result<String, Box<dyn Error>> {
        let mut shown = String::new();
        for line in self.lines.by_ref() {
            let line = line?;
            shown.push_str(&line);
            shown.push('\n');
            if line.contains(text) {
                return Ok(shown);
            }
        }
        Err(format!("the runner ended before it said {text:?}:\n{shown}").into())
    }

    pub(crate) fn end(&mut self, signal: Signal) -> Result<ExitStatus, Box<dyn Error>> {
        kill(Pid::from_raw(self.child.id().try_into()?), signal)?;
        for line in self.lines.by_ref() {
            line?;
        }
        Ok(self.child.wait()?)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.end(Signal::SIGTERM);
        }
    }
}

pub(crate) fn mode(path: &Path) -> Result<u32, Box<dyn Error>> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

pub(crate) fn password_of(user: &str, shown: &str) -> Option<String> {
    shown.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(user))
            .then(|| words.next().map(str::to_owned))
            .flatten()
    })
}

pub(crate) fn log_in(port: u16, password: &str) -> Result<String, Box<dyn Error>> {
    let body = format!("username=alice&password={password}");
    exchange(
        port,
        &format!(
            "POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

pub(crate) fn get(port: u16, path: &str) -> Result<String, Box<dyn Error>> {
    exchange(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
}

/// Opens an Engine.IO session as a page of `origin` would, and returns the status.
pub(crate) fn open_session(port: u16, origin: &str) -> Result<String, Box<dyn Error>> {
    let answer = exchange(
        port,
        &format!(
            "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Origin: {origin}\r\n\r\n"
        ),
    )?;
    let status = answer.split_whitespace().nth(1);
    Ok(status.ok_or("no status")?.to_owned())
}

pub(crate) fn exchange(port: u16, request: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
