//! Runs the two services side by side: neither outlives the other, nor this program.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::build::Binaries;
use crate::settings::Settings;

/// How long a service may take to finish what it is doing; the services promise less.
const GRACE: Duration = Duration::from_secs(5);
/// How often a child is asked whether it still lives.
const TICK: Duration = Duration::from_millis(100);
/// What a service prints when it accepts connections.
const READY: &str = "listening on http";

enum Event {
    Ready,
    Stop,
}

/// Starts both services, says which page to open, and waits until one dies or the user stops them.
///
/// # Errors
///
/// When a service cannot be started or stops by itself, or does not stop when told.
pub(crate) fn run(settings: &Settings, binaries: &Binaries) -> anyhow::Result<()> {
    let (sender, events) = channel();
    let stop = sender.clone();
    ctrlc::set_handler(move || drop(stop.send(Event::Stop))).context("no signal handler")?;

    let mut services = Services::default();
    services.start("auth", settings.auth_command(&binaries.auth), &sender)?;
    services.start(
        "realtime",
        settings.realtime_command(&binaries.realtime),
        &sender,
    )?;
    let died = services.watch(&events, settings);

    println!("\ncargo dev: stopping");
    let stopped = services.stop(&events);
    if let Some((name, status)) = died {
        bail!("{name} stopped by itself ({status}); its last lines say why");
    }
    stopped
}

struct Service {
    name: &'static str,
    child: Child,
}

#[derive(Default)]
struct Services {
    started: Vec<Service>,
    relays: Vec<JoinHandle<()>>,
}

impl Services {
    /// Starts a service in a process group of its own: the terminal's Ctrl-C reaches this program
    /// alone, which then tells each service once.
    fn start(
        &mut self,
        name: &'static str,
        mut command: Command,
        ready: &Sender<Event>,
    ) -> anyhow::Result<()> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} could not be started"))?;
        if let Some(output) = child.stdout.take() {
            self.relays.push(relay(name, output, Some(ready.clone())));
        }
        if let Some(output) = child.stderr.take() {
            self.relays.push(relay(name, output, None));
        }
        self.started.push(Service { name, child });
        Ok(())
    }

    /// Returns the service that died, or nothing when the user wants to stop.
    fn watch(
        &mut self,
        events: &Receiver<Event>,
        settings: &Settings,
    ) -> Option<(&'static str, ExitStatus)> {
        let mut ready = 0;
        loop {
            match events.recv_timeout(TICK) {
                Ok(Event::Ready) => ready += 1,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(died) = self.dead() {
                        return Some(died);
                    }
                    continue;
                }
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            }
            if ready == self.started.len() {
                let (page, api) = (settings.realtime.url(), settings.api.url());
                println!(
                    "\ncargo dev: back ends call {api}, with its description at {api}/docs/\n\
                     cargo dev: open {page} and log in; Ctrl-C stops both services\n"
                );
            }
        }
    }

    fn dead(&mut self) -> Option<(&'static str, ExitStatus)> {
        self.started.iter_mut().find_map(|service| {
            let status = service.child.try_wait().ok().flatten()?;
            Some((service.name, status))
        })
    }

    /// Asks every service to stop, and kills what has not after the grace period, or at a second
    /// Ctrl-C.
    fn stop(&mut self, events: &Receiver<Event>) -> anyhow::Result<()> {
        let deadline = Instant::now() + GRACE;
        for service in &mut self.started {
            terminate(&mut service.child);
        }
        let mut impatient = false;
        while self.running() && !impatient && Instant::now() < deadline {
            impatient = matches!(events.recv_timeout(TICK), Ok(Event::Stop));
        }
        let mut killed = Vec::new();
        for Service { name, child } in &mut self.started {
            if child.try_wait()?.is_none() {
                child.kill()?;
                child.wait()?;
                killed.push(*name);
            }
        }
        // With the services gone their output ends; what they said last is worth reading.
        for relay in self.relays.drain(..) {
            let _ = relay.join();
        }
        if !killed.is_empty() && !impatient {
            bail!(
                "{} did not stop within {} s: killed",
                killed.join(" and "),
                GRACE.as_secs()
            );
        }
        Ok(())
    }

    fn running(&mut self) -> bool {
        self.started
            .iter_mut()
            .any(|service| matches!(service.child.try_wait(), Ok(None)))
    }
}

impl Drop for Services {
    /// Leaves no service behind when starting the second one failed.
    fn drop(&mut self) {
        for service in &mut self.started {
            drop(service.child.kill());
            drop(service.child.wait());
        }
    }
}

/// Sends SIGTERM, unless the child has been waited for: its number may be another's by then.
fn terminate(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None))
        && let Ok(id) = i32::try_from(child.id())
    {
        use nix::sys::signal::{Signal, kill};
        let _ = kill(nix::unistd::Pid::from_raw(id), Signal::SIGTERM);
    }
}

/// Copies a service's output line by line, each with the name in front.
fn relay(
    name: &'static str,
    output: impl Read + Send + 'static,
    ready: Option<Sender<Event>>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut lines = BufReader::new(output).split(b'\n');
        while let Some(Ok(line)) = lines.next() {
            let line = String::from_utf8_lossy(&line);
            println!("{name:>8} | {line}");
            if let Some(ready) = &ready
                && line.starts_with(READY)
            {
                drop(ready.send(Event::Ready));
            }
        }
    })
}
