//! JSON from elsewhere.

use serde::de::DeserializeOwned;

/// One JSON object of the shape of a `T`.
///
/// serde would also take a struct from an array of its members' values, which no format of ours
/// means: a text could then be read in a way that its other readers do not share.
#[must_use]
pub fn from_object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().first() == Some(&b'{');
    is_object.then(|| serde_json::from_slice(json).ok())?
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Named {
        name: String,
    }

    #[test]
    fn an_array_is_no_object() {
        let named = |json: &str| from_object::<Named>(json.as_bytes()).map(|named| named.name);
        assert_eq!(named(" \r\n\t{\"name\":\"ada\"} "), Some("ada".to_owned()));
        for other in [
            r#"["ada"]"#,
            r#" ["ada"]"#,
            r#""ada""#,
            "{}",
            "",
            r#"{"name":"ada"}]"#,
        ] {
            assert_eq!(named(other), None, "{other}");
        }
        // What it is all about: serde itself takes it.
        assert!(serde_json::from_str::<Named>(r#"["ada"]"#).is_ok());
    }
}
