//! Syntax errors come alone, with their place; and what an error looks like.

use super::{errors, marked, parse};

#[test]
fn a_syntax_error_points_to_its_place() {
    for text in [
        "[server]\nthreads = »= 1\n",
        "[server]\nheader_timeout = »10 s\n",
        "[server]\nlisten = [\"127.0.0.1:80\"»",
        "[server]\n[admin]\n[»server]\n",
        "[server]\nthreads = 1\n»threads = 2\n",
        "[server]\ndefault_lane = \"core»\nthreads = 1\n",
        "# ü\n\"ü\" = »12 Uhr\n",
    ] {
        let (text, line, column) = marked(text);
        let found = errors(&text);
        let places: Vec<_> = found.iter().map(|e| (e.line, e.column)).collect();
        assert_eq!(places, [(line, column)], "in:\n{text}");
        assert!(
            found[0].message.starts_with("not valid TOML: "),
            "{}",
            found[0].message
        );
        assert_eq!(found[0].key, "");
    }
}

/// Without the first line both others would be reported.
#[test]
fn a_syntax_error_comes_alone() {
    let found = errors("threads = = 1\n[servr]\n[admin]\nlisten = 1\n");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].line, 1);
}

/// Story: a port was wrong, and the password of Redis stood in the journal.
#[test]
fn an_error_does_not_show_who_a_url_connects_as() {
    for (line, shown) in [
        (
            "store = \"http://:hunter2@h\" # here",
            "store = ******************* * ****",
        ),
        (
            "stores = ['redis://u:hünter/2@h', 'redis://h', 'redis://u:p@i']",
            "stores = ['redis://**********@h', 'redis://h', 'redis://***@i']",
        ),
        ("store = \"redis://u:p@h", "store = **************"),
        ("stor = 'redis://h' # a@b", "stor = 'redis://h' # a@b"),
    ] {
        let text = format!("[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\n{line}\n");
        let found = errors(&text);
        let found = found
            .iter()
            .find(|error| error.line == 4)
            .map(|error| error.source_line.as_deref());
        assert_eq!(found, Some(Some(shown)));
    }
}

#[test]
fn an_error_shows_its_line() {
    let errors = parse("[server]\n\tlisten = [\"127.0.0.1\"] # here\n").unwrap_err();
    let expected = "\
gateway.toml:2:12: server.listen[0]: must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"
  2 |  listen = [\"127.0.0.1\"] # here
    |            ^";
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn columns_count_characters() {
    let errors =
        parse("\u{feff}\"schlüssel\" = 1\r\nadmin = { listen = \"ü\", x = 1 }\r\n").unwrap_err();
    let expected = "\
gateway.toml:1:1: \"schlüssel\": unknown key; known here: server, health, admin, observe, ip, auth, limits, lanes, \
upstreams, routes, response, log_ingest
  1 | \"schlüssel\" = 1
    | ^
gateway.toml:2:20: admin.listen: must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"
  2 | admin = { listen = \"ü\", x = 1 }
    |                    ^
gateway.toml:2:25: admin.x: unknown key; known here: listen, token_file
  2 | admin = { listen = \"ü\", x = 1 }
    |                         ^";
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let padding = "a".repeat(5000);
    let text = format!("[server]\ndefault_auth = [\"{padding}\", 1, \"{padding}\"]");
    let shown = parse(&text).unwrap_err().to_string();
    assert!(
        shown.starts_with("gateway.toml:2:5021: server.default_auth[1]: "),
        "{shown}"
    );
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), 3);
    let caret = lines[2].chars().position(|c| c == '^').unwrap();
    assert_eq!(lines[1].chars().nth(caret), Some('1'));
    assert!(lines[1].chars().count() < 140);
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let shown = parse("a = 1 \u{1b}[31m\n").unwrap_err().to_string();
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    let key = parse("\"\\u001b[31m\" = 1\n").unwrap_err().to_string();
    assert!(!key.contains('\u{1b}'), "{key:?}");
}
