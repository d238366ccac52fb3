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
    figures::Figures,
    ledger::{Ledger, Violation},
    outage,
    plan::{self, Event, Fault},
    publishers::{log_out, notify, publish_by_http, publish_by_socket, start_back_end},
    report, revocation,
    subscribers::Seat,
    tokens::{Issuer, random_text},
    verdict::{Played, judge, judge_rolling},
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

/// Minimum number of publishers.
const PUBLISHERS: u32 = 9;
/// Messages that one publisher sends in a second, when there are more publishers than [`PUBLISHERS`]: it waits
/// for each acknowledgement.
const PUBLISHER_RATE: u32 = 15;
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

/// Runs, prints the table or the figures, and writes the files. Returns whether no promise was broken, and
/// no bar was missed.
///
/// # Errors
///
/// Returns an error if the cluster does not start, or a file cannot be written.
pub(crate) async fn run(options: &Options) -> anyhow::Result<bool> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("{} --seed {seed}", options.describe());
    raise_file_limit(options.sockets)?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut tasks = JoinSet::new();
    let world = start_world(options, folder.path(), &mut tasks).await?;
    let length = Duration::from_secs(options.seconds());
    let mut figures = Figures::new(options.mode.command(), options.is_whole());
    let is_kept = match options.mode {
        Mode::Outage => {
            outage::run(&world, length, &mut figures).await?;
            true
        }
        Mode::Revocation => {
            revocation::run(&world, length, &mut figures).await?;
            true
        }
        Mode::Faults | Mode::Rolling => {
            run_with_load(&world, options, seed, (&mut figures, &mut tasks)).await?
        }
    };
    tasks.shutdown().await;
    if options.mode != Mode::Faults {
        println!("{}", figures.table());
    }
    if let Some(document) = &options.document {
        figures.write(document, &options.circumstances()?)?;
    }
    Ok(is_kept && figures.are_good())
}

/// Starts the cluster and the back end.
async fn start_world(
    options: &Options,
    folder: &Path,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Arc<World>> {
    let (received, mut events_received) = mpsc::unbounded_channel();
    let back_end = start_back_end(received).await.context("the back end")?;
    let issuer = Issuer::new()?;
    let program = options.program()?;
    let around = (options.cluster, back_end);
    let world = Arc::new(World {
        run: random_text(6)?,
        cluster: Cluster::start(&program, folder, &issuer, around).await?,
        back_end_token: issuer.back_end()?,
        issuer,
        ledger: Ledger::default(),
        http: reqwest::Client::new(),
    });
    let noting = world.clone();
    tasks.spawn(async move {
        while let Some(id) = events_received.recv().await {
            noting.ledger.received(&id);
        }
        Ok(())
    });
    Ok(world)
}

/// Does harm to the cluster, or restarts its gateways, while clients use it. Returns whether no promise was
/// broken.
async fn run_with_load(
    world: &Arc<World>,
    options: &Options,
    seed: u64,
    (figures, tasks): (&mut Figures, &mut JoinSet<anyhow::Result<()>>),
) -> anyhow::Result<bool> {
    let rooms = options.sockets.div_ceil(options.room_size);
    let mut seats = Vec::new();
    for number in 0..options.sockets {
        seats.push(Seat::new(world, number, rooms)?);
    }
    gather(world, &seats, tasks).await?;
    let began = world.ledger.elapsed() + BEGINNING;
    let length = Duration::from_secs(options.seconds()).saturating_sub(BEGINNING + CALM);
    let events = match options.mode {
        Mode::Rolling => plan::rolling(DRAIN_WINDOW),
        _ => plan::draw(seed, length, world.cluster.shards.count()),
    };
    let events = shifted(events, began);
    let played = play(world, &seats, rooms, &events, options.rate, tasks).await;
    judge(world, &seats, rooms).await?;
    if options.mode == Mode::Rolling {
        judge_rolling(world, &played, options.rate, figures);
    }
    conclude(world, &events, seed, &options.folder()?)
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

/// Publishes while faults happen, and waits for the end of the calm.
async fn play(
    world: &Arc<World>,
    seats: &[Arc<Seat>],
    rooms: usize,
    events: &[Event],
    rate: u32,
    subscribers: &mut JoinSet<anyhow::Result<()>>,
) -> Played {
    let begin = Instant::now();
    let mut publishers = JoinSet::new();
    let count = (rate / PUBLISHER_RATE).max(PUBLISHERS);
    let period = Duration::from_secs(1) * count / rate;
    for number in 0..count as usize {
        let world = world.clone();
        // Two of three publish over a socket.
        match number % 3 {
            2 => publishers.spawn(publish_by_http(world, number, rooms, period)),
            _ => publishers.spawn(publish_by_socket(world, number, rooms, period)),
        };
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
    let published = world.ledger.totals().published as f64;
    let rate = published / begin.elapsed().as_secs_f64();
    sleep_until(over + CALM).await;
    Played { drains, rate }
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
