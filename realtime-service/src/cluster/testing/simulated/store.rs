//! The data of the simulated server: the logs of rooms, and the scripts that read and write them.

use std::collections::{BTreeMap, HashMap};

/// The data.
#[derive(Default)]
pub(super) struct Store {
    /// Number of processes before the current one.
    runs: u64,
    incarnation: Option<Vec<u8>>,
    tenure: Option<Vec<u8>>,
    logs: BTreeMap<Vec<u8>, Log>,
    scripts: HashMap<Vec<u8>, Kind>,
}

/// A script of the gateway.
#[derive(Clone, Copy)]
enum Kind {
    Begin,
    Append,
    Read,
}

/// The log of one room.
struct Log {
    run: Vec<u8>,
    epoch: Vec<u8>,
    offset: u64,
    messages: BTreeMap<u64, Vec<u8>>,
    ids: HashMap<Vec<u8>, u64>,
}

/// Messages to publish: a channel and a payload each.
type Published = Vec<(Vec<u8>, Vec<u8>)>;

impl Store {
    pub(super) fn run(&self) -> String {
        format!("run-{}", self.runs)
    }

    /// Continues in another process, which has the same data and no script.
    pub(super) fn restart(&mut self) {
        self.runs += 1;
        self.scripts.clear();
    }

    pub(super) fn delete_all(&mut self) {
        (self.incarnation, self.tenure) = (None, None);
        self.logs.clear();
    }

    /// Takes the last messages out of each log, as if they had never been there.
    pub(super) fn lose(&mut self, count: u64) {
        for log in self.logs.values_mut() {
            log.offset = log.offset.saturating_sub(count);
            log.messages.retain(|offset, _| *offset <= log.offset);
            log.ids.retain(|_, offset| *offset <= log.offset);
        }
    }

    pub(super) fn incarnation(&self) -> Vec<u8> {
        match &self.incarnation {
            Some(text) => bulk(text),
            None => b"_\r\n".to_vec(),
        }
    }

    pub(super) fn add_script(&mut self, hash: &str, text: &str) {
        let kind = match text {
            _ if text.contains("'XADD'") => Kind::Append,
            _ if text.contains("recovered") => Kind::Read,
            _ => Kind::Begin,
        };
        self.scripts.insert(hash.as_bytes().to_vec(), kind);
    }

    /// Runs a script: its name, its hash, the number of its keys, the keys, and the arguments.
    pub(super) fn run_script(&mut self, command: &[Vec<u8>]) -> (Vec<u8>, Published) {
        let Some(kind) = self.scripts.get(&command[1]).copied() else {
            return (error("NOSCRIPT No matching script."), Vec::new());
        };
        let keys = number(&command[2]) as usize;
        let (keys, arguments) = command[3..].split_at(keys);
        match kind {
            Kind::Begin => (self.begin(arguments), Vec::new()),
            Kind::Append => self.append(&keys[0], arguments),
            Kind::Read => self.read(&keys[0], arguments),
        }
    }

    /// As `begin.lua`.
    fn begin(&mut self, arguments: &[Vec<u8>]) -> Vec<u8> {
        let (run, random) = (&arguments[0], &arguments[1]);
        let incarnation = self.incarnation.get_or_insert_with(|| random.clone());
        let begins = |tenure: &[u8]| tenure.starts_with(&[&run[..], b" "].concat());
        let tenure = match self.tenure.take() {
            None => run.clone(),
            Some(tenure) if tenure == *run || begins(&tenure) => tenure,
            Some(_) => [run, &b" "[..], random].concat(),
        };
        let answer = array(b'*', &[bulk(incarnation), bulk(&tenure)]);
        self.tenure = Some(tenure);
        answer
    }

    /// As `log.lua`.
    fn log(&mut self, key: &[u8], arguments: &[Vec<u8>]) -> (&mut Log, Published) {
        let (run, epoch, channel) = (&arguments[0], &arguments[1], &arguments[2]);
        let begin = || Log {
            run: run.clone(),
            epoch: epoch.clone(),
            offset: 0,
            messages: BTreeMap::new(),
            ids: HashMap::new(),
        };
        let is_known = self.logs.get(key).is_some_and(|log| log.run == *run);
        if !is_known {
            self.logs.insert(key.to_vec(), begin());
        }
        let notice = [&epoch[..], b" 0 "].concat();
        let published = (!is_known).then(|| (channel.clone(), notice));
        let log = self.logs.entry(key.to_vec()).or_insert_with(begin);
        (log, published.into_iter().collect())
    }

    /// As `append.lua`, without bounds.
    fn append(&mut self, key: &[u8], arguments: &[Vec<u8>]) -> (Vec<u8>, Published) {
        let (message, id) = (&arguments[10], &arguments[11]);
        let (log, mut published) = self.log(key, arguments);
        let known = log.ids.get(id).copied().filter(|_| !id.is_empty());
        if known.is_none() {
            log.offset += 1;
            log.ids.insert(id.clone(), log.offset);
            log.messages.insert(log.offset, message.clone());
            let head = format!(" {} ", log.offset);
            let payload = [&log.epoch[..], head.as_bytes(), message].concat();
            published.push((arguments[2].clone(), payload));
        }
        let offset = known.unwrap_or(log.offset) as i64;
        let is_repeated = i64::from(known.is_some());
        let original = known.and_then(|offset| log.messages.get(&offset));
        let answer = [
            bulk(&log.epoch),
            integer(offset),
            integer(is_repeated),
            original.map_or_else(|| b"_\r\n".to_vec(), |message| bulk(message)),
        ];
        (array(b'*', &answer), published)
    }

    /// As `read.lua`.
    fn read(&mut self, key: &[u8], arguments: &[Vec<u8>]) -> (Vec<u8>, Published) {
        let (since, after) = (&arguments[10], number(&arguments[11]));
        let (last, maximum) = (number(&arguments[12]), number(&arguments[13]));
        let (log, published) = self.log(key, arguments);
        let (count, offset) = (log.messages.len() as i64, log.offset as i64);
        let missing = offset - after;
        let (recovered, wanted) = match since {
            _ if since.is_empty() => (-1, last.min(count)),
            _ if *since == log.epoch && (0..=count).contains(&missing) => (1, missing),
            _ if maximum >= 0 => (0, count),
            _ => (0, last.min(count)),
        };
        let take = if maximum >= 0 {
            wanted.min(maximum)
        } else {
            wanted
        };
        let more = i64::from(take < wanted);
        let mut answer = vec![
            bulk(&log.epoch),
            integer(offset),
            integer(recovered),
            integer(more),
        ];
        let first = (offset - wanted + 1).unsigned_abs();
        for (offset, message) in log.messages.range(first..).take(take as usize) {
            answer.extend([integer(*offset as i64), bulk(message)]);
        }
        (array(b'*', &answer), published)
    }
}

fn number(text: &[u8]) -> i64 {
    let text = str::from_utf8(text).expect("a number");
    text.parse().expect("a number")
}

/// Takes a command from the beginning of `bytes`: its parts, and its length.
pub(super) fn command(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let (count, mut end) = length(bytes, 0, b'*')?;
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let (size, start) = length(bytes, end, b'$')?;
        parts.push(bytes.get(start..start + size)?.to_vec());
        end = start + size + 2;
    }
    (bytes.len() >= end).then_some((parts, end))
}

/// Reads the line at `at`, which has `kind` and a length. Returns the length and the end of the line.
fn length(bytes: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.windows(2).position(|end| end == b"\r\n")?;
    assert_eq!(rest[0], kind, "a command");
    let length = usize::try_from(number(&rest[1..end])).expect("a length");
    Some((length, at + end + 2))
}

pub(super) fn simple(text: &str) -> Vec<u8> {
    format!("+{text}\r\n").into_bytes()
}

pub(super) fn error(text: &str) -> Vec<u8> {
    format!("-{text}\r\n").into_bytes()
}

pub(super) fn integer(number: i64) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

pub(super) fn bulk(text: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

pub(super) fn push(values: &[Vec<u8>]) -> Vec<u8> {
    array(b'>', values)
}

fn array(kind: u8, values: &[Vec<u8>]) -> Vec<u8> {
    let head = format!("{}{}\r\n", char::from(kind), values.len());
    [head.into_bytes(), values.concat()].concat()
}
