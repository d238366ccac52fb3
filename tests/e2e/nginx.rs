//! Several gateways behind nginx, with the configuration of `docs/deploy/nginx`.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use harness::{
    Gateway, Mode, Opening, Options, Polling, Stack, eventually, nginx::Nginx, soon,
    websocket::parse,
};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

/// Number of clients while a gateway drains: some on each gateway.
const CLIENTS: u8 = 30;

/// Three gateways behind nginx.
struct Behind {
    stack: Stack,
    _others: [Gateway; 2],
    nginx: Nginx,
}

/// An address of this machine that stands for a client.
const fn client(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 1, number))
}

impl Behind {
    async fn start() -> Self {
        let options = Options::default()
            .mode(Mode::Binaries)
            .log("info")
            .gateway("drain.window_secs", 5)
            .gateway("limits.sessions_per_address", 40)
            .gateway("trusted_proxies", json!(["127.0.0.1"]));
        let stack = Stack::start_with(options).await;
        let others = [stack.start_gateway().await, stack.start_gateway().await];
        let gateways = [stack.gateway_address, others[0].address, others[1].address];
        Self {
            nginx: Nginx::start(&gateways).await,
            stack,
            _others: others,
        }
    }

    /// A client that polls from this address, without cookies.
    fn polling(&self, from: IpAddr) -> Polling {
        Polling::of(&self.stack).at(&self.nginx.url()).from(from)
    }

    /// A WebSocket from this address.
    fn opening(&self, from: IpAddr) -> Opening {
        Opening::of(&self.stack).at(self.nginx.address).from(from)
    }

    /// The gateways that served each client, once `count` requests are in the log.
    async fn served(&self, count: usize) -> HashMap<IpAddr, HashSet<SocketAddr>> {
        eventually("the lines of the log", async || {
            self.nginx.log().len() >= count
        })
        .await;
        let mut served: HashMap<_, HashSet<_>> = HashMap::new();
        for line in self.nginx.log() {
            let last = line.gateways.last().expect("a gateway");
            served.entry(line.client).or_default().insert(*last);
        }
        served
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and the built binaries"]
async fn a_client_that_polls_stays_on_its_gateway_by_its_address_or_its_cookie() {
    let behind = Behind::start().await;
    let token = behind.stack.forge().token();
    for number in 1..=12 {
        // Opening, CONNECT and its answer, and an event and its answer.
        let mut polling = behind.polling(client(number)).admitted(&token).await;
        let answer = polling.call("rt:subscribe", json!({"room": "lobby"})).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let served = behind.served(12 * 5).await;
    assert!(served.values().all(|gateways| gateways.len() == 1));
    let place = |number| served[&client(number)].iter().next().copied();
    let used: HashSet<_> = (1..=12).map(place).collect();
    assert!(used.len() > 1, "all clients are on one gateway");

    // A client whose address changes to one of another gateway: by its cookie it stays where it is.
    let other = (2..=12).find(|number| place(*number) != place(1));
    let other = client(other.expect("two gateways"));
    let opened = behind.polling(client(1)).open().await.expect("a session");
    let cookie = format!("latchkey_gateway={}", client(1));
    let moved = opened.clone().from(other);
    assert_eq!(moved.post("40").await.0, StatusCode::BAD_REQUEST);
    let moved = moved.header("cookie", &cookie);
    assert_eq!(moved.post("40").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and the built binaries"]
async fn the_cookie_comes_with_the_answer_that_opens_a_session_by_polling_and_with_no_other() {
    let behind = Behind::start().await;
    let url = format!("{}/socket.io/?EIO=4&transport=polling", behind.nginx.url());
    let cookie = async |request: RequestBuilder| {
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let cookie = answer.headers().get("set-cookie").cloned();
        let cookie = cookie.map(|cookie| cookie.to_str().expect("text").to_owned());
        (cookie, answer.text().await.expect("a body"))
    };
    let http = behind.stack.http();
    let (set, opened) = cookie(http.get(&url)).await;
    let expected = "latchkey_gateway=127.0.0.1; Path=/socket.io/; HttpOnly; Secure; SameSite=Lax";
    assert_eq!(set.as_deref(), Some(expected));
    let sid = parse(&opened[1..])["sid"]
        .as_str()
        .expect("a sid")
        .to_owned();
    let (set, _) = cookie(http.post(format!("{url}&sid={sid}")).body("40")).await;
    assert_eq!(set, None);
    let again = http
        .get(&url)
        .header("cookie", "latchkey_gateway=127.0.0.1");
    assert_eq!(cookie(again).await.0, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and the built binaries"]
async fn websockets_of_one_address_are_spread_and_an_upgrade_reaches_its_session() {
    let behind = Behind::start().await;
    let token = behind.stack.forge().token();
    let mut sockets = Vec::new();
    for _ in 0..12 {
        let mut socket = behind.opening(client(1)).admitted(&token).await;
        socket.subscribe("lobby").await;
        sockets.push(socket);
    }
    // nginx logs a WebSocket when it ends.
    drop(sockets);
    let served = behind.served(12).await;
    assert!(served[&client(1)].len() > 1, "{served:?}");

    for number in 2..=6 {
        let polling = behind
            .polling(client(number))
            .open()
            .await
            .expect("a session");
        let upgrade = behind.opening(client(number)).query("sid", &polling.sid);
        let mut socket = upgrade
            .header("user-agent", "polling/1")
            .open()
            .await
            .expect("a WebSocket");
        socket.send("2probe").await;
        assert_eq!(socket.packet().await, "3probe");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and the built binaries"]
async fn a_client_counts_by_its_own_address_whatever_it_says() {
    let behind = Behind::start().await;
    let open = async |number, says: String| {
        let polling = behind
            .polling(client(number))
            .header("x-forwarded-for", &says);
        polling.open().await.map(|_| ())
    };
    for count in 0..40 {
        assert_eq!(open(1, format!("192.0.2.{count}")).await, Ok(()), "{count}");
    }
    let refused = Err(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(open(1, "192.0.2.200".to_owned()).await, refused);
    // The same words from another client, on whichever gateway.
    assert_eq!(open(2, "192.0.2.200".to_owned()).await, Ok(()));
}

/// Sends events and polls for their answers, and returns whether each was answered until `rt:drain` came.
async fn is_served_until_told(mut client: Polling) -> bool {
    let event = json!(["rt:history", {"room": "lobby", "limit": 0}]);
    loop {
        if client.post(format!("421{event}")).await.0 != StatusCode::OK {
            return false;
        }
        match client.packet().await {
            Some(packet) if packet.contains("rt:drain") => return true,
            Some(packet) => assert!(packet.starts_with("431"), "{packet}"),
            None => return false,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and the built binaries"]
async fn no_client_is_refused_while_a_gateway_drains_and_its_sessions_go_on() {
    let behind = Behind::start().await;
    let draining = behind.stack.gateway_address;
    let token = behind.stack.forge().token();
    let mut polling = Vec::new();
    for number in 1..=CLIENTS {
        polling.push(behind.polling(client(number)).admitted(&token).await);
    }
    let served = behind.served(usize::from(CLIENTS) * 3).await;
    let is_there = |number: u8| served[&client(number)].contains(&draining);
    assert!((1..=CLIENTS).any(is_there) && !(1..=CLIENTS).all(is_there));

    // Each client polls all the time, as clients do.
    let (mut leaving, mut staying) = (JoinSet::new(), Vec::new());
    for (number, one) in (1..=CLIENTS).zip(polling) {
        match is_there(number) {
            true => drop(leaving.spawn(is_served_until_told(one))),
            false => staying.push(one),
        }
    }
    behind.stack.terminate_gateway();
    let url = format!("{}/health/ready", behind.stack.gateway_url);
    eventually("a gateway that drains", async || {
        let answer = behind.stack.http().get(&url).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::SERVICE_UNAVAILABLE)
    })
    .await;
    // New sessions are opened on another gateway, and go on there although the first one still lives.
    for number in 1..=CLIENTS {
        let mut new = behind.polling(client(number)).admitted(&token).await;
        let answer = new.call("rt:subscribe", json!({"room": "lobby"})).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
    assert!(!leaving.is_empty());
    while let Some(heard) = soon("the end of a session", leaving.join_next()).await {
        assert!(heard.expect("no panic"), "a session ended without a word");
    }
    for one in &mut staying {
        let answer = one.call("rt:subscribe", json!({"room": "lobby"})).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
}
