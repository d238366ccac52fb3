use super::*;
use crate::{
    config::{DatabaseUrl, Settings},
    store::event::Actor,
};

const CONFIG: &str = r#"{"hash_config": {"base64_signer_key": "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==", "base64_salt_separator": "Bw==", "rounds": 8, "mem_cost": 14}}"#;

fn line(name: &str) -> String {
    format!(
        r#"{{"username": "{name}", "firebase": {{"salt": "42xEC+ixf3L2lw==", "hash": "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="}}}}"#
    )
}

#[tokio::test]
async fn a_refused_hash_config_leaves_the_lines_after_it_without_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = DatabaseUrl::sqlite(&directory.path().join("new.db"));
    let store = Store::open(&url).await.expect("a store");
    let settings = Settings::default();
    let manager = Administration::new(&store, Actor::Command, &settings);
    for (number, (config, refusal)) in [
        (CONFIG.to_owned(), None),
        (CONFIG.replace("14}", "13}"), Some(LineError::HashTooWeak)),
        (CONFIG.replace("\"Bw==\"", "7"), Some(LineError::Malformed)),
        (CONFIG.replace("8,", "8, \"more\": 1,"), None),
        (
            CONFIG.replace("}}", "}, \"more\": 1}"),
            Some(LineError::Malformed),
        ),
        (
            CONFIG.replacen('{', &format!("{},", &CONFIG[..CONFIG.len() - 1]), 1),
            Some(LineError::Malformed),
        ),
        (
            r#"{"hash_config": null}"#.to_owned(),
            Some(LineError::Malformed),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut import = manager.import().expect("an import");
        let (before, after) = (line(&format!("a{number}")), line(&format!("b{number}")));
        let dump = [CONFIG, &before, &config, &after].join("\n");
        import.feed(dump.as_bytes()).await.expect("a write");
        let report = import.finish().await.expect("a write");
        let codes: Vec<_> = report.lines.iter().map(|line| line.code).collect();
        let missing = LineError::HashConfigMissing;
        let expected: Vec<_> = refusal
            .into_iter()
            .flat_map(|code| [code, missing])
            .collect();
        assert_eq!(codes, expected, "{config}");
        assert_eq!(report.imported, if refusal.is_some() { 1 } else { 2 });
    }
}
