//! One run: the cluster starts, clients come, faults happen, and after a calm everything is judged.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    chart,
    cluster::{Cluster, DRAIN_WINDOW},
    command::{Mode, Options},
    ledger::{Ledger, Violation},
    plan::{self, Event, Fault},
    publishers::{log_out, notify, publish_by_http, publish_by_socket, start_back_end},
    report,
    subscribers::Seat,
    tokens::{Issuer, random_text},
    verdict::{judge, judge_rolling},
    world::World,
};

/// Time between the last fault and the judgement.
const CALM: Duration = Duration::from_secs(15);
/// Time before the first fault, in which everybody is there.
const BEGINNING: Duration = Duration::from_secs(3);
/// Time for which publishers go on after the last fault.
const ENCORE: Duration = Duration::from_secs(5);
/// Maximum time until all subscribers are there.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);
/// Subscribers that connect at the same time.
const CONNECT_BATCH: usize = 50;

const ROOM_SIZE: usize = 30;
const SOCKET_PUBLISHERS: usize = 6;
const HTTP_PUBLISHERS: usize = 3;
const NOTIFIERS: usize = 3;
/// Time between two events of a notifier.
const NOTIFY_PERIOD: Duration = Duration::from_millis(200);
/// Time between two logouts.
const LOGOUT_PERIOD: Duration = Duration::from_secs(1);
/// One in so many subscribers is logged out.
const LOGOUT_SHARE: usize = 10;
/// Files that the run needs for each subscriber: its own end, and both ends in the proxy.
const FILES_PER_SOCKET: u64 = 3;
const FILES_BESIDE: u64 = 1000;

/// Runs, prints the table and writes the files. Returns whether no promise was broken.
///
/// # Errors
///
/// Returns an error if the cluster does not start, or a file cannot be written.
pub(crate) async fn run(options: &Options) -> anyhow::Result<bool> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mode = match options.mode {
        Mode::Faults => format!("--seconds {}", options.seconds),
        Mode::Rolling => "rolling".to_owned(),
    };
    println!(
        "cargo chaos {mode} --seed {seed} --sockets {}",
        options.sockets
    );
    raise_file_limit(options.sockets)?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let (received, mut events_received) = mpsc::unbounded_channel();
    let back_end = start_back_end(received).await.context("the back end")?;
    let issuer = Issuer::new()?;
    let program = options.program()?;
    let cluster = Cluster::start(&program, folder.path(), &issuer, back_end).await?;
    let world = Arc::new(World {
        run: random_text(6)?,
        cluster,
        issuer,
        ledger: Ledger::default(),
        http: reqwest::Client::new(),
    });
    let noting = world.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(id) = events_received.recv().await {
            noting.ledger.received(&id);
        }
        Ok(())
    });
    let rooms = options.sockets.div_ceil(ROOM_SIZE);
    let mut seats = Vec::new();
    for number in 0..options.sockets {
        seats.push(Seat::new(&world, number, number % rooms)?);
    }
    gather(&world, &seats, &mut tasks).await?;
    let began = world.ledger.elapsed() + BEGINNING;
    let length = Duration::from_secs(options.seconds).saturating_sub(BEGINNING + CALM);
    let events = match options.mode {
        Mode::Faults => plan::draw(seed, length),
        Mode::Rolling => plan::rolling(DRAIN_WINDOW),
    };
    let events = shifted(events, began);
    let drains = play(&world, &seats, rooms, &events, options.rate, &mut tasks).await;
    judge(&world, &seats, rooms).await?;
    if options.mode == Mode::Rolling {
        judge_rolling(&world, &drains);
    }
    tasks.shutdown().await;
    conclude(&world, &events, seed, &options.folder()?)
}

/// Lets the events of a plan begin at `began`.
fn shifted(mut events: Vec<Event>, began: Duration) -> Vec<Event> {
    for event in &mut events {
        event.at += began;
    }
    events
}

/// Connects all subscribers, some at a time, and waits until each is in its room.
async fn gather(
    world: &Arc<World>,
    seats: &[Arc<Seat>],
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let all = async {
        for batch in seats.chunks(CONNECT_BATCH) {
            for seat in batch {
                let (seat, world) = (seat.clone(), world.clone());
                tasks.spawn(async move {
                    seat.live(world).await;
                    Ok(())
                });
            }
            while !batch.iter().all(|seat| seat.state().is_subscribed) {
                sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let gathered = timeout(CONNECT_LIMIT, all).await;
    gathered.context("the subscribers did not connect in time")
}

/// Publishes while faults happen, and waits for the end of the calm. Returns the second in which each gateway
/// was sent SIGTERM, and the number of its clients.
async fn play(
    world: &Arc<World>,
    seats: &[Arc<Seat>],
    rooms: usize,
    events: &[Event],
    rate: u32,
    subscribers: &mut JoinSet<anyhow::Result<()>>,
) -> Vec<(u64, usize)> {
    let mut publishers = JoinSet::new();
    let count = u32::try_from(SOCKET_PUBLISHERS + HTTP_PUBLISHERS).unwrap_or(1);
    let period = Duration::from_secs(1) * count / rate;
    for number in 0..SOCKET_PUBLISHERS {
        publishers.spawn(publish_by_socket(world.clone(), number, rooms, period));
    }
    for number in 0..HTTP_PUBLISHERS {
        publishers.spawn(publish_by_http(world.clone(), number, rooms, period));
    }
    for number in 0..NOTIFIERS {
        publishers.spawn(notify(world.clone(), number, NOTIFY_PERIOD));
    }
    let start = Instant::now() - world.ledger.elapsed();
    let mut harm = JoinSet::new();
    for event in events.iter().copied() {
        let (world, seats) = (world.clone(), seats.to_vec());
        harm.spawn(async move {
            sleep_until(start + event.at).await;
            let drain = match event.fault {
                Fault::ReplaceGateway(number) => {
                    let clients = seats.iter().map(|seat| seat.state().gateway);
                    let count = clients.filter(|at| *at == Some(number)).count();
                    Some((world.ledger.elapsed().as_secs(), count))
                }
                _ => None,
            };
            if let Err(error) = world.cluster.suffer(event).await {
                let text = format!("{}: {error:#}", event.fault);
                world.ledger.violated(Violation::Broken, text);
            }
            drain
        });
    }
    // A logout under way when the faults are over is still acknowledged.
    let end = events.last().map_or(Duration::ZERO, |event| event.at);
    let time = end.saturating_sub(world.ledger.elapsed()).as_secs();
    let most = usize::try_from(time / LOGOUT_PERIOD.as_secs()).unwrap_or_default();
    let leaving = seats.iter().step_by(LOGOUT_SHARE).take(most).cloned();
    subscribers.spawn(log_out(world.clone(), leaving.collect(), LOGOUT_PERIOD));
    let drains = harm.join_all().await.into_iter().flatten().collect();
    let over = Instant::now();
    sleep_until(over + ENCORE).await;
    publishers.shutdown().await;
    sleep_until(over + CALM).await;
    drains
}

/// Prints the table, writes the files, and returns whether no promise was broken.
fn conclude(world: &World, events: &[Event], seed: u64, folder: &Path) -> anyhow::Result<bool> {
    let ledger = &world.ledger;
    println!("{}", report::table(ledger, events, seed));
    std::fs::create_dir_all(folder).context("the folder of the result")?;
    let title = format!("cargo chaos, seed {seed}");
    let svg = chart::draw(&title, &ledger.seconds(), events);
    let document = report::document(ledger, events, seed);
    let files: [(PathBuf, String); 2] = [
        (folder.join("chaos.svg"), svg),
        (folder.join("chaos.json"), format!("{document:#}\n")),
    ];
    for (path, text) in files {
        std::fs::write(&path, text)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        println!("{}", path.display());
    }
    Ok(ledger.violations().is_empty())
}

/// Raises the limit of open files, which the processes of the cluster inherit.
fn raise_file_limit(sockets: usize) -> anyhow::Result<()> {
    let needed = sockets as u64 * FILES_PER_SOCKET + FILES_BESIDE;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files")?;
    if soft < needed {
        ensure!(
            hard >= needed,
            "{sockets} sockets need {needed} open files, and {hard} are allowed: raise `ulimit -Hn`, or use fewer --sockets"
        );
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard).context("the limit of open files")?;
    }
    Ok(())
}
