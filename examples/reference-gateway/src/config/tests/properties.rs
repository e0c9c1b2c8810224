//! Whatever stands in a file: a configuration or errors that can be shown, never a panic.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{CONTRACT, no_variables, parse};
use crate::config::error::ConfigErrors;
use crate::config::table::Config;

/// Every error can be shown, and its place is one of the text.
fn sound(text: &str, result: Result<Config, ConfigErrors>) {
    let Err(errors) = result else { return };
    assert!(!errors.as_slice().is_empty());
    let lines = text.matches('\n').count() + 1;
    for error in errors.as_slice() {
        assert!(error.line <= lines, "{error}");
        assert!(error.line == 0 || error.column >= 1, "{error}");
        assert!(
            error.column
                <= error
                    .source_line
                    .as_deref()
                    .unwrap_or_default()
                    .chars()
                    .count()
                    + 1,
            "{error:?}"
        );
        assert!(!error.message.is_empty());
        assert!(error.to_string().starts_with("gateway.toml"));
    }
}

/// One slip of an editor.
#[derive(Debug, Clone)]
enum Slip {
    Cut(Index, Index),
    Insert(Index, String),
    CopyLine(Index, Index),
    SwapValues(Index, Index),
}

fn slip() -> impl Strategy<Value = Slip> {
    let pieces = select(vec![
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "#",
        "-1",
        "0",
        "1e400",
        "nan",
        "\"\"",
        "\"${X}\"",
        "true",
        "\0",
        "ü",
        "[[routes]]\n",
        "a.b.c = 1\n",
        "99999999999999999999",
        "\\u0000",
        "\r\n",
        "1979-05-27",
    ]);
    prop_oneof![
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Slip::Cut(a, b)),
        (any::<Index>(), pieces.prop_map(str::to_owned))
            .prop_map(|(at, piece)| Slip::Insert(at, piece)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Slip::CopyLine(a, b)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Slip::SwapValues(a, b)),
    ]
}

impl Slip {
    fn make(&self, text: &str) -> String {
        let boundary = |index: &Index, text: &str| {
            let mut at = index.index(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() {
            return text.to_owned();
        }
        match self {
            Self::Cut(a, b) => {
                let (a, b) = (boundary(a, text), boundary(b, text));
                // Short cuts: long ones leave nothing to look at.
                let (from, to) = (a.min(b), a.max(b).min(a.min(b) + 200));
                let to = (from..=to)
                    .rev()
                    .find(|at| text.is_char_boundary(*at))
                    .unwrap_or(from);
                format!("{}{}", &text[..from], &text[to..])
            }
            Self::Insert(at, piece) => {
                let at = boundary(at, text);
                format!("{}{piece}{}", &text[..at], &text[at..])
            }
            Self::CopyLine(from, to) => {
                let mut copy = lines.clone();
                copy.insert(to.index(lines.len()), lines[from.index(lines.len())]);
                copy.join("\n")
            }
            Self::SwapValues(a, b) => {
                let (a, b) = (a.index(lines.len()), b.index(lines.len()));
                let mut swapped: Vec<String> =
                    lines.iter().map(|line| (*line).to_owned()).collect();
                if let (Some((key_a, value_a)), Some((key_b, value_b))) =
                    (lines[a].split_once('='), lines[b].split_once('='))
                {
                    swapped[a] = format!("{key_a}={value_b}");
                    swapped[b] = format!("{key_b}={value_a}");
                }
                swapped.join("\n")
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        sound(&text, parse(&text));
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, &bytes).unwrap();
        let result = Config::load(&path, &no_variables);
        prop_assert!(result.is_err_and(|errors| !errors.to_string().is_empty()));
    }

    #[test]
    fn any_toml_like_text(text in r#"([a-z\[\]{}="',.0-9# \n-]|server|routes|upstreams|lanes|"1s"){0,120}"#) {
        sound(&text, parse(&text));
    }

    #[test]
    fn the_contract_with_slips(slips in proptest::collection::vec(slip(), 1..6)) {
        let text = slips.iter().fold(CONTRACT.to_owned(), |text, slip| slip.make(&text));
        sound(&text, parse(&text));
    }
}
