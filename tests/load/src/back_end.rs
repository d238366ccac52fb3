//! A back end that servers call: it answers every request on loopback with the same acknowledgement.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::Context as _;

/// Maximum size of the body of a request, in bytes.
const MAXIMUM_BODY_BYTES: u64 = 1024 * 1024;
/// Stack of the thread of one connection, in bytes.
const STACK_BYTES: usize = 128 * 1024;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 21\r\n\r\n\
                        {\"ack\":[{\"ok\":true}]}";

/// Starts the back end on a thread of this process, until it ends. So its CPU time counts for no server.
/// Returns its address.
///
/// # Errors
///
/// Returns an error if no port is free or no thread can be started.
pub(crate) fn start() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for a back end")?;
    let address = listener.local_addr()?;
    let thread = thread::Builder::new().name("back end".to_owned());
    let spawned = thread.spawn(move || serve(&listener));
    spawned.context("no thread for a back end")?;
    Ok(address)
}

/// Answers all connections, a thread each; returns when the listener is closed.
pub fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        // The end of a connection is no failure of the back end.
        let serve = move || drop(answer_all(stream));
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        // A server whose connection is closed counts a failed call.
        drop(thread.spawn(serve));
    }
}

/// Answers the requests of one connection until it ends.
fn answer_all(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut requests = BufReader::new(stream.try_clone()?);
    while read_request(&mut requests)? {
        stream.write_all(ANSWER)?;
    }
    Ok(())
}

/// Reads one request. Returns `false` at the end of the connection.
fn read_request(requests: &mut BufReader<TcpStream>) -> io::Result<bool> {
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if requests.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(u64::MAX);
        }
    }
    if length > MAXIMUM_BODY_BYTES {
        return Ok(false);
    }
    let read = io::copy(&mut requests.take(length), &mut io::sink())?;
    Ok(read == length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_connection_are_answered_and_one_without_a_length_it_can_have_is_not() {
        let mut stream = TcpStream::connect(start().expect("a back end")).expect("a connection");
        let mut answer = [0; ANSWER.len()];
        for body in ["{}", ""] {
            let length = body.len();
            write!(
                stream,
                "POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .expect("sent");
            stream.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer, ANSWER);
        }
        write!(stream, "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n").expect("sent");
        assert_eq!(stream.read(&mut answer).expect("the end"), 0);
    }
}
