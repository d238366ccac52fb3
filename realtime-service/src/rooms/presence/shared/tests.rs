//! Writes and reads of rows in a real server.

use crate::cluster::testing;

use super::{record::Row, *};

fn user(number: usize) -> User {
    User {
        iss: None,
        sub: format!("user-{number}").into(),
    }
}

/// Rows of users with the largest data that a back end may give.
fn large_rows(count: usize) -> Vec<UserRow> {
    let data = format!("\"{}\"", "x".repeat(1022));
    let row = Row {
        connections: 1,
        name: None,
        data: Some(data.into()),
    };
    (0..count)
        .map(|number| (user(number), Some(row.clone())))
        .collect()
}

fn lobby() -> RoomName {
    RoomName::parse("lobby").expect("a room")
}

#[test]
fn a_write_has_so_many_rows_and_bytes() {
    let sizes = |rows: Vec<[String; 2]>| {
        let mut rows = rows.into_iter().peekable();
        let parts = std::iter::from_fn(|| Some(next_part(&mut rows)).filter(|it| !it.is_empty()));
        parts.map(|part| part.len()).collect::<Vec<_>>()
    };
    let row = |bytes: usize| [String::new(), "x".repeat(bytes)];
    assert_eq!(sizes(vec![row(1); 2 * ROWS + 1]), [ROWS, ROWS, 1]);
    assert_eq!(sizes(vec![row(WRITE_BYTES / 4); 9]), [4, 4, 1]);
    assert_eq!(sizes(vec![row(WRITE_BYTES + 1); 2]), [1, 1]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn large_rows_are_written_and_read_in_small_parts() {
    const ROWS: usize = 1000;
    let settings = testing::settings();
    let (writing, reading) = (
        testing::connected(&settings).await,
        testing::connected(&settings).await,
    );
    let renewing = writing.clone();
    tokio::spawn(async move { renewing.keep_lease().await });
    let mut leases = writing.leases();
    let id = leases
        .wait_for(Option::is_some)
        .await
        .expect("a lease")
        .clone();
    let (writer, reader) = (SharedPresence::new(writing), SharedPresence::new(reading));
    let rows = Rows {
        connections: ROWS,
        rows: large_rows(ROWS),
    };
    let (lobby, id) = (lobby(), id.expect("a lease"));
    let written = writer.write(&lobby, &id, Some(rows), true).await;
    assert_eq!(written, Ok(()));
    let minimum = ROWS * 1024 / WRITE_BYTES;
    assert!(
        writer.writes() >= minimum as u64,
        "{} writes",
        writer.writes()
    );

    let link = reader.cluster().link().expect("a connection");
    let pages = reader.read(&lobby, &link).await.expect("pages");
    let [page] = &pages[..] else {
        panic!("{} pages", pages.len());
    };
    assert!(page.written.is_complete);
    let (mut cursor, mut rows) = (page.cursor, page.rows.clone());
    let mut users = HashSet::new();
    loop {
        let bytes: usize = rows.iter().map(|row| bytes_of(&record::encode(row))).sum();
        assert!(bytes <= PAGE_BYTES, "{bytes} bytes");
        assert!(rows.len() <= 2 * READ_ROWS, "{} rows", rows.len());
        users.extend(rows.into_iter().map(|(user, _)| user));
        if cursor == 0 {
            break;
        }
        let next = reader.read_on(&lobby, &link, (&page.id, cursor));
        (cursor, rows) = next.await.expect("a page");
    }
    assert_eq!(users.len(), ROWS);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn everything_is_written_again_only_after_the_shard_of_presence_was_away() {
    let cluster = testing::connected(&testing::settings_of_cluster()).await;
    let people = SharedPresence::new(cluster.clone());
    let home = cluster.name("");
    testing::lose_other_shards(&cluster, &home);
    assert!(!cluster.is_connected() && cluster.reaches(&home));
    people.mark(&lobby(), Some(&user(1)));
    let is_marked = |pending: &Pending| (pending.rooms.len(), pending.is_everything);
    assert_eq!(is_marked(&people.pending()), (1, false));
    testing::lose_shard(&cluster, &home);
    people.mark(&lobby(), Some(&user(2)));
    assert_eq!(is_marked(&people.pending()), (0, true));
}
