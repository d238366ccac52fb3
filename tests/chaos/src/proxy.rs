//! A TCP proxy on loopback that harms the connections through it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::{plan::Harm, resp};

/// Delay of bytes under [`Harm::Delay`].
const DELAY: Duration = Duration::from_millis(150);
/// Part of the messages of channels that [`Harm::Lose`] drops.
const LOST: f64 = 1.0 / 3.0;
/// Bytes that one read takes.
const READ_BYTES: usize = 16 * 1024;

/// State of all connections.
#[derive(Clone, Copy)]
struct Weather {
    /// The address to which new connections lead.
    target: SocketAddr,
    harm: Option<Harm>,
    /// Number of times that all connections were closed.
    cuts: u64,
}

/// A proxy. Its listener ends with the process.
pub(crate) struct Proxy {
    /// The address of its listener.
    pub(crate) address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
}

impl Proxy {
    /// Listens on a free port, and passes connections on to `target`.
    ///
    /// # Errors
    ///
    /// Returns an error if no port is free.
    pub(crate) async fn start(target: SocketAddr) -> std::io::Result<Self> {
        Self::carrying((Ipv4Addr::LOCALHOST, 0).into(), target, false).await
    }

    /// Listens on `address`, and passes connections on to a Redis server. They can lose messages of
    /// channels.
    ///
    /// # Errors
    ///
    /// Returns an error if the address is in use.
    pub(crate) async fn start_for_redis(
        address: SocketAddr,
        target: SocketAddr,
    ) -> std::io::Result<Self> {
        Self::carrying(address, target, true).await
    }

    async fn carrying(
        address: SocketAddr,
        target: SocketAddr,
        is_redis: bool,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let weather = Arc::new(watch::Sender::new(Weather {
            target,
            harm: None,
            cuts: 0,
        }));
        let accepted = weather.clone();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((client, _)) => {
                        tokio::spawn(carry(client, is_redis, accepted.subscribe()));
                    }
                    // The system has no file for the connection now.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(Self { address, weather })
    }

    /// Leads new connections to another address.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.weather.send_modify(|weather| weather.target = target);
    }

    /// Begins a harm, which lasts until [`Self::mend`].
    pub(crate) fn harm(&self, harm: Harm) {
        self.weather.send_modify(|weather| match harm {
            Harm::Cut => weather.cuts += 1,
            _ => weather.harm = Some(harm),
        });
    }

    /// Ends a harm. Connections whose bytes were held back are closed: these bytes are lost.
    pub(crate) fn mend(&self) {
        self.weather.send_modify(|weather| {
            if weather.harm.take() == Some(Harm::Silence) {
                weather.cuts += 1;
            }
        });
    }
}

/// Carries one connection until one of its ends, or a harm, closes it.
async fn carry(client: TcpStream, is_redis: bool, weather: watch::Receiver<Weather>) {
    let Weather { target, cuts, .. } = *weather.borrow();
    let mut cut = weather.clone();
    let carried = async {
        let server = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        tokio::select! {
            ended = pass(from_client, to_server, None, weather.clone()) => ended,
            ended = pass(from_server, to_client, is_redis.then(Vec::new), weather.clone()) => ended,
        }
    };
    tokio::select! {
        // Whichever end failed, both are closed.
        _ = carried => {}
        _ = cut.wait_for(|now| now.cuts != cuts) => {}
    }
}

/// Passes the bytes of one direction. With `unfinished`, they are frames of Redis, and pass as whole frames.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut unfinished: Option<Vec<u8>>,
    mut weather: watch::Receiver<Weather>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        let harm = weather.borrow_and_update().harm;
        match harm {
            None | Some(Harm::Cut | Harm::Lose) => {}
            Some(Harm::Delay) => tokio::time::sleep(DELAY).await,
            Some(Harm::Halve) => return to.write_all(&bytes[..count / 2]).await,
            Some(Harm::Silence) => std::future::pending().await,
        }
        match &mut unfinished {
            None => to.write_all(&bytes[..count]).await?,
            Some(unfinished) => {
                unfinished.extend_from_slice(&bytes[..count]);
                let frames = take_frames(unfinished, harm == Some(Harm::Lose));
                to.write_all(&frames).await?;
            }
        }
    }
}

/// Takes the complete frames out of `bytes`, some messages of channels left out if `is_lossy`.
fn take_frames(bytes: &mut Vec<u8>, is_lossy: bool) -> Vec<u8> {
    let (mut frames, mut start) = (Vec::new(), 0);
    while let Some(length) = resp::frame_length(&bytes[start..]) {
        let frame = &bytes[start..start + length];
        start += length;
        if !is_lossy || !resp::is_message(frame) || fastrand::f64() >= LOST {
            frames.extend_from_slice(frame);
        }
    }
    bytes.drain(..start);
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    /// Sends 8 bytes and returns what comes back before the end, or within 2 s.
    async fn exchange(stream: &mut TcpStream) -> usize {
        let mut bytes = [0; 8];
        let answer = async {
            stream.write_all(b"01234567").await?;
            let mut count = 0;
            while count < bytes.len() {
                match stream.read(&mut bytes[count..]).await? {
                    0 => break,
                    more => count += more,
                }
            }
            Ok::<_, std::io::Error>(count)
        };
        let answer = tokio::time::timeout(Duration::from_secs(2), answer).await;
        answer.expect("an answer or the end").unwrap_or_default()
    }

    #[tokio::test]
    async fn bytes_pass_until_the_connection_is_cut() {
        let proxy = Proxy::start(echo().await).await.expect("a proxy");
        let mut stream = TcpStream::connect(proxy.address).await.expect("a stream");
        assert_eq!(exchange(&mut stream).await, 8);
        proxy.harm(Harm::Cut);
        assert_eq!(exchange(&mut stream).await, 0);
        let mut stream = TcpStream::connect(proxy.address).await.expect("a stream");
        assert_eq!(exchange(&mut stream).await, 8);
    }

    #[tokio::test]
    async fn half_of_the_bytes_pass_and_the_connection_ends() {
        let proxy = Proxy::start(echo().await).await.expect("a proxy");
        let mut stream = TcpStream::connect(proxy.address).await.expect("a stream");
        proxy.harm(Harm::Halve);
        assert!(exchange(&mut stream).await < 8);
        proxy.mend();
        let mut stream = TcpStream::connect(proxy.address).await.expect("a stream");
        assert_eq!(exchange(&mut stream).await, 8);
    }

    #[test]
    fn messages_of_channels_are_lost_and_answers_are_not() {
        let message = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
        let mut bytes = [&message.repeat(1000)[..], &b"+OK\r\n".repeat(10), b"+unfin"].concat();
        assert_eq!(
            take_frames(&mut bytes.clone(), false).len(),
            bytes.len() - 6
        );
        let frames = take_frames(&mut bytes, true);
        assert_eq!(bytes, b"+unfin");
        let passed = (frames.len() - 50) / message.len();
        assert!((550..800).contains(&passed), "{passed}");
        assert!(frames.ends_with(&b"+OK\r\n".repeat(10)));
    }

    #[tokio::test]
    async fn silence_passes_nothing_and_ends_the_connection() {
        let proxy = Proxy::start(echo().await).await.expect("a proxy");
        let mut stream = TcpStream::connect(proxy.address).await.expect("a stream");
        proxy.harm(Harm::Silence);
        stream.write_all(b"lost").await.expect("written");
        let mut byte = [0];
        let early = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut byte)).await;
        assert!(early.is_err(), "{early:?}");
        proxy.mend();
        assert_eq!(stream.read(&mut byte).await.unwrap_or_default(), 0);
    }

    #[tokio::test]
    async fn a_delay_loses_nothing_and_another_target_is_led_to() {
        let proxy = Proxy::start(echo().await).await.expect("a proxy");
        let mut stream = TcpStream::connect(proxy.address).await.expect("a stream");
        proxy.harm(Harm::Delay);
        let start = std::time::Instant::now();
        assert_eq!(exchange(&mut stream).await, 8);
        assert!(start.elapsed() >= DELAY);
        // Nothing listens on the port of discard.
        proxy.lead_to(([127, 0, 0, 1], 9).into());
        let mut stream = TcpStream::connect(proxy.address).await.expect("a stream");
        assert_eq!(exchange(&mut stream).await, 0);
    }
}
