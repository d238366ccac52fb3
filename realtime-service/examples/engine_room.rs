//! The engine with one room and without tokens, to measure the transport alone: `join` joins the
//! room, `room:message` sends its arguments to all members, `echo` is acknowledged with its
//! arguments. `ADDRESS` is the address to listen on, `THREADS` the number of worker threads.

use std::{
    convert::Infallible,
    env,
    sync::{Arc, Mutex, PoisonError},
};

use axum::body::Body;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use realtime_service::transport::{
    Packet,
    engine::{
        Answer, CloseReason, Engine, EngineQuery, EngineSettings, RequestError, Violation, recover,
        socket_io::{
            Acknowledgement, Event, PacketType, SocketData, SocketHandler, SocketIo, SocketSession,
            write_header,
        },
    },
};
use tokio::net::{TcpListener, TcpStream};

type Client = Arc<SocketSession<()>>;

/// The members of the room.
#[derive(Default)]
struct Room(Mutex<Vec<Client>>);

fn packet(packet_type: PacketType, id: Option<u64>, json: &[&str]) -> Packet {
    let write = |buffer: &mut Vec<u8>| {
        write_header(buffer, packet_type, 0, "/", id);
        for part in json {
            buffer.extend_from_slice(part.as_bytes());
        }
    };
    Packet::message(write, &[])
}

impl SocketHandler for Room {
    type Data = ();

    fn opened(&self, _: &Client) {}

    fn connect(&self, session: &Client, _: &str, _: &str) -> Result<(), Violation> {
        session.set_admitted();
        session.send(packet(
            PacketType::Connect,
            None,
            &[r#"{"sid":"BBBBBBBBBBBBBBBB"}"#],
        ));
        Ok(())
    }

    fn event(&self, session: &Client, _: &str, event: Event<'_>) -> Result<(), Violation> {
        let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = event.ack_id {
            let arguments = event.json.split_once(',').map_or("]", |(_, rest)| rest);
            session.send(packet(
                PacketType::Acknowledgement,
                Some(id),
                &["[", arguments],
            ));
        }
        if event.json.starts_with(r#"["join""#) {
            members.push(session.clone());
        } else if event.json.starts_with(r#"["room:message""#) {
            let message = packet(PacketType::Event, None, &[event.json]);
            for member in members.iter() {
                member.send(message.clone());
            }
        }
        Ok(())
    }

    fn acknowledged(&self, _: &Client, _: &str, _: Acknowledgement<'_>) -> Result<(), Violation> {
        Ok(())
    }

    fn disconnected(&self, _: &Client, _: &str) -> Result<(), Violation> {
        Ok(())
    }

    fn closed(&self, session: &Client, _: CloseReason) {
        let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| !Arc::ptr_eq(member, session));
    }
}

fn main() -> std::io::Result<()> {
    let threads = env::var("THREADS").ok().and_then(|text| text.parse().ok());
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()?.block_on(run())
}

async fn run() -> std::io::Result<()> {
    let address = env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:4110".to_owned());
    let layer = SocketIo::new(Room::default(), 10);
    let engine = Engine::new(EngineSettings::default(), layer, recover::<TcpStream>);
    let running = engine.clone();
    tokio::spawn(async move { running.run().await });
    let listener = TcpListener::bind(&address).await?;
    println!("listening on http://{address}");
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            continue;
        };
        let _ = tcp.set_nodelay(true);
        tokio::spawn(serve(tcp, engine.clone()));
    }
}

async fn serve(tcp: TcpStream, engine: Engine<SocketIo<Room>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let engine = engine.clone();
        async move {
            let request = request.map(Body::new);
            let respond = async {
                let query = EngineQuery::parse(request.uri())?;
                let Some(sid) = &query.sid else {
                    let data = SocketData::new(());
                    return engine.open(request, &query, Arc::default(), data);
                };
                let session = engine.session(sid).ok_or(RequestError::UnknownSession)?;
                engine
                    .resume(request, query.transport, session)
                    .wait()
                    .await
            };
            let answer = respond.await.map(Answer::spawn);
            Ok::<_, Infallible>(answer.unwrap_or_else(RequestError::into_response))
        }
    });
    // The end of a connection is no matter for this program.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(tcp), service)
        .with_upgrades()
        .await;
}
