use super::*;

const ONE: &str = "one-x.1";
const TWO: &str = "two-y.1";

fn user(sub: &str) -> User {
    User {
        iss: None,
        sub: sub.into(),
    }
}

fn present(subs: &[&str]) -> Vec<UserRow> {
    let row = Row {
        data: None,
        connections: 1,
        name: None,
    };
    let rows = subs.iter().map(|sub| (user(sub), Some(row.clone())));
    rows.collect()
}

fn written(version: u64) -> Written {
    Written {
        version,
        connections: 1,
        is_complete: true,
    }
}

/// Applies rows, and returns whether nothing was missed, and who has appeared (`+`) or vanished (`-`).
fn hear(
    all: &mut Elsewhere,
    id: &str,
    (previous, version): (Option<u64>, u64),
    rows: Vec<UserRow>,
) -> (bool, String) {
    let notice = Notice::Rows {
        id: id.into(),
        previous,
        written: written(version),
        rows,
    };
    told(|flips| all.hear(notice, flips))
}

fn told<T>(change: impl FnOnce(&mut Vec<Flip>) -> T) -> (T, String) {
    let mut flips = Vec::new();
    let output = change(&mut flips);
    let mut names: Vec<String> = flips
        .iter()
        .map(|flip| match flip {
            Flip::Appeared(user) => format!("+{}", user.sub),
            Flip::Vanished(user) => format!("-{}", user.sub),
        })
        .collect();
    names.sort();
    (output, names.join(" "))
}

fn page(id: &str, version: u64, cursor: u64, subs: &[&str]) -> Page {
    Page {
        id: id.into(),
        written: written(version),
        cursor,
        rows: present(subs),
    }
}

fn heard(text: &str) -> (bool, String) {
    (true, text.to_owned())
}

#[test]
fn a_user_on_two_gateways_appears_once_and_vanishes_with_the_last() {
    let mut all = Elsewhere::default();
    let first = hear(&mut all, ONE, (None, 1), present(&["alice", "bob"]));
    assert_eq!(first, heard("+alice +bob"));
    assert_eq!(
        hear(&mut all, TWO, (None, 1), present(&["alice"])),
        heard("")
    );
    assert_eq!((all.count(), all.connections()), (2, 2));
    assert_eq!(all.rows(&user("alice")).count(), 2);
    let left = hear(&mut all, ONE, (Some(1), 2), vec![(user("alice"), None)]);
    assert_eq!(left, heard(""));
    let gone = told(|flips| all.hear(Notice::Gone(TWO.into()), flips));
    assert_eq!(gone, heard("-alice"));
    assert_eq!((all.count(), all.connections()), (1, 1));
}

#[test]
fn what_is_old_changes_nothing_and_what_does_not_follow_is_not_applied() {
    let mut all = Elsewhere::default();
    let stranger = hear(&mut all, ONE, (Some(4), 5), present(&["bob"]));
    assert_eq!(stranger, (false, String::new()), "nothing is known before");
    hear(&mut all, ONE, (None, 5), present(&["alice"]));
    let old = hear(&mut all, ONE, (Some(3), 4), vec![(user("alice"), None)]);
    assert_eq!(old, heard(""));
    let gap = hear(&mut all, ONE, (Some(6), 7), present(&["bob"]));
    assert_eq!(gap, (false, String::new()));
    let next = hear(&mut all, ONE, (Some(5), 6), present(&["bob"]));
    assert_eq!(next, heard("+bob"));
    // A replacement needs nothing before it.
    let replaced = hear(&mut all, ONE, (None, 9), present(&["bob", "carol"]));
    assert_eq!(replaced, heard("+carol -alice"));
}

#[test]
fn a_read_takes_nothing_back_that_was_heard_of_since_it_began() {
    let mut all = Elsewhere::default();
    let now = Instant::now();
    hear(&mut all, ONE, (None, 1), present(&["alice"]));
    hear(&mut all, TWO, (None, 1), present(&["bob"]));
    all.begin_read();
    hear(&mut all, ONE, (Some(1), 2), vec![(user("alice"), None)]);
    told(|flips| all.hear(Notice::Gone(TWO.into()), flips));
    // The answer is from before.
    let pages = vec![page(ONE, 1, 0, &["alice"]), page(TWO, 1, 0, &["bob"])];
    let (further, changes) = told(|flips| all.finish_read(pages, now, flips));
    assert_eq!((changes.as_str(), all.count()), ("", 0));
    assert!(further.places.is_empty() && !further.has_missing);
    // Without anything heard, the answer counts.
    all.begin_read();
    let pages = vec![page(ONE, 3, 0, &["alice"]), page(TWO, 2, 0, &["bob"])];
    let (_, changes) = told(|flips| all.finish_read(pages, now, flips));
    assert_eq!(changes, "+alice +bob");
}

#[test]
fn rows_are_read_page_by_page_while_they_change() {
    let mut all = Elsewhere::default();
    hear(&mut all, ONE, (None, 1), present(&["former", "alice"]));
    all.begin_read();
    let pages = vec![page(ONE, 4, 7, &["alice"])];
    let (further, _) = told(|flips| all.finish_read(pages, Instant::now(), flips));
    assert_eq!(further.places, [(ONE.into(), 7)]);
    // Bob leaves, and the page that still has him comes later.
    let left = hear(&mut all, ONE, (Some(4), 5), vec![(user("bob"), None)]);
    assert_eq!(left, heard(""));
    let id: Arc<str> = ONE.into();
    let page = present(&["bob", "carol"]);
    let last = told(|flips| all.read_on(&id, page, true, flips));
    assert_eq!(last, heard("+carol -former"));
    let none = told(|flips| all.read_on(&id, present(&["dave"]), true, flips));
    assert_eq!(none, (false, String::new()), "the rows are known by now");
}

#[test]
fn a_read_that_ended_early_is_begun_again_whatever_is_heard() {
    let id: Arc<str> = ONE.into();
    // The second answer is from before or after the message that is heard meanwhile.
    for (version, page_of_bob) in [(5, &["bob", "dave"][..]), (4, &["bob", "carol", "dave"])] {
        let mut all = Elsewhere::default();
        hear(&mut all, ONE, (None, 1), present(&["former", "alice"]));
        for number in 0..2 {
            all.begin_read();
            if number == 1 {
                let left = hear(&mut all, ONE, (Some(4), 5), vec![(user("carol"), None)]);
                assert_eq!(left, heard(""));
            }
            let pages = vec![page(
                ONE,
                if number == 1 { version } else { 4 },
                7,
                &["alice"],
            )];
            let (further, _) = told(|flips| all.finish_read(pages, Instant::now(), flips));
            assert_eq!(further.places, [(id.clone(), 7)]);
        }
        let last = told(|flips| all.read_on(&id, present(page_of_bob), true, flips));
        assert_eq!(last, heard("+bob +dave -former"));
        let next = hear(&mut all, ONE, (Some(5), 6), present(&["erin"]));
        assert_eq!(next, heard("+erin"));
    }
}

#[test]
fn a_gateway_that_redis_lost_is_kept_until_its_lease_would_have_run_out() {
    let mut all = Elsewhere::default();
    let now = Instant::now();
    hear(&mut all, ONE, (None, 1), present(&["alice"]));
    let read = |all: &mut Elsewhere, pages| {
        all.begin_read();
        told(|flips| all.finish_read(pages, now, flips))
    };
    let (further, changes) = read(&mut all, Vec::new());
    assert!(further.has_missing && changes.is_empty());
    // The gateway writes again, under another lease.
    let again = hear(&mut all, "one-x.2", (None, 8), present(&["alice"]));
    assert_eq!(again, heard(""));
    assert_eq!(all.connections(), 1, "the former lease counts no more");
    let (further, _) = read(&mut all, vec![page("one-x.2", 8, 0, &["alice"])]);
    assert!(!further.has_missing);
    read(&mut all, Vec::new());
    let early = now - std::time::Duration::from_secs(1);
    assert_eq!(told(|flips| all.remove_missing(early, flips)).1, "");
    assert_eq!(told(|flips| all.remove_missing(now, flips)).1, "-alice");
}

#[test]
fn a_lease_in_part_does_not_replace_the_one_before() {
    let mut all = Elsewhere::default();
    hear(&mut all, ONE, (None, 1), present(&["alice", "bob"]));
    let notice = |previous, version, is_complete, subs: &[&str]| Notice::Rows {
        id: "one-x.2".into(),
        previous,
        written: Written {
            is_complete,
            ..written(version)
        },
        rows: present(subs),
    };
    let part = told(|flips| all.hear(notice(None, 2, false, &["alice"]), flips));
    assert_eq!(part, heard(""));
    let rest = told(|flips| all.hear(notice(Some(2), 3, true, &["carol"]), flips));
    assert_eq!(rest, heard("+carol -bob"));
}

#[test]
fn without_redis_all_are_forgotten() {
    let mut all = Elsewhere::default();
    hear(&mut all, ONE, (None, 1), present(&["alice", "bob"]));
    assert_eq!(told(|flips| all.clear(flips)).1, "-alice -bob");
    assert_eq!((all.count(), all.connections()), (0, 0));
}
