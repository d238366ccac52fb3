//! Fakes of the providers in docs/providers.md, with the settings that stand there.

use std::{collections::BTreeMap, path::PathBuf};

use harness::{FakeProviders, Mode, Opening, Options, Stack, soon};
use realtime_service::config::{Config, IssuerSettings};
use serde_json::json;

/// The fewest forged tokens that each provider's token has for twins.
const TWINS: usize = 9;

/// The settings of the document, by the heading above them.
fn documented() -> BTreeMap<String, String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/providers.md");
    let page = std::fs::read_to_string(path).expect("docs/providers.md");
    let sections = page.split("\n## ").skip(1);
    let blocks = sections.filter_map(|section| {
        let (heading, text) = section.split_once('\n')?;
        let (_, rest) = text.split_once("```toml\n")?;
        let (block, _) = rest.split_once("```")?;
        Some((heading.to_owned(), format!("\n{block}")))
    });
    blocks.collect()
}

/// The issuers of settings in TOML.
fn issuers_of(settings: &str) -> Vec<IssuerSettings> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("gateway.toml");
    std::fs::write(&file, settings).expect("a written file");
    let config = Config::load(Some(&file));
    let config = config.unwrap_or_else(|error| panic!("{error}: {settings}"));
    config.issuers
}

/// A gateway that knows every provider by the settings of the document.
async fn stack(fakes: &FakeProviders, settings: &BTreeMap<String, String>) -> Stack {
    let issuers: Vec<IssuerSettings> = settings
        .values()
        .flat_map(|block| issuers_of(&fakes.redirect(block)))
        .collect();
    let options = Options::default().gateway("issuers", json!(issuers));
    Stack::start_with(options.mode(Mode::InProcess)).await
}

/// The message with which a token is refused.
async fn refusal_of(stack: &Stack, token: &str) -> Option<String> {
    let mut socket = Opening::of(stack).session().await;
    let refused = socket.connect(&json!({ "token": token })).await.err()?;
    Some(refused.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn each_provider_is_admitted_as_documented_and_its_forged_twins_are_not() {
    let (fakes, settings) = (FakeProviders::start().await, documented());
    let stack = stack(&fakes, &settings).await;
    let tokens = fakes.tokens().await;
    let names = |map: &BTreeMap<String, _>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        tokens.keys().cloned().collect::<Vec<_>>(),
        names(&settings),
        "every documented provider has a fake, and the other way round"
    );
    for (name, tokens) in tokens {
        assert!(tokens.refused.len() >= TWINS, "{name}");
        for admitted in &tokens.admitted {
            let refusal = refusal_of(&stack, &admitted.token).await;
            assert_eq!(refusal, None, "{name}: {}", admitted.what);
            let mut socket = Opening::of(&stack).admitted(&admitted.token).await;
            soon("a room", socket.subscribe("lobby")).await;
        }
        for refused in &tokens.refused {
            let refusal = refusal_of(&stack, &refused.token).await;
            let expected = Some(refused.message.clone());
            assert_eq!(refusal, expected, "{name}: {}", refused.what);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn a_provider_whose_settings_are_not_listed_is_refused() {
    let fakes = FakeProviders::start().await;
    let stack = stack(&fakes, &BTreeMap::new()).await;
    for (name, tokens) in fakes.tokens().await {
        let refusal = refusal_of(&stack, &tokens.admitted[0].token).await;
        assert_eq!(refusal, Some("jwt issuer invalid".to_owned()), "{name}");
    }
}

#[test]
fn every_documented_provider_has_a_row_in_the_table_and_settings_that_work_as_they_stand() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/providers.md");
    let page = std::fs::read_to_string(path).expect("docs/providers.md");
    let settings = documented();
    let rows = page.lines().filter_map(|line| {
        let (name, place) = line.strip_prefix("| [")?.split_once("](#")?;
        let (place, _) = place.split_once(')')?;
        Some((name.to_owned(), place.to_owned()))
    });
    let rows: BTreeMap<String, String> = rows.collect();
    assert_eq!(
        rows.keys().collect::<Vec<_>>(),
        settings.keys().collect::<Vec<_>>()
    );
    for (name, place) in rows {
        let anchor = name.to_lowercase().replace(',', "").replace(' ', "-");
        assert_eq!(place, anchor);
        assert_eq!(issuers_of(&settings[&name]).len(), 1, "{name}");
    }
}
