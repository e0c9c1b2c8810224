//! Callers with API keys.

use std::path::Path;

use gw_testkit::client::Answer;
use gw_testkit::upstream::{Reply, Upstream, always};
use tempfile::TempDir;

use crate::gateway::{Gateway, command, config, folder, route, upstream};
use crate::http::{is_refusal, send};
use crate::log_lines::to_file;

/// Two keys of `acme`, one of `zeta`: `acme-key-1`, `acme-key-2` and `zeta-key`.
pub(crate) const KEYS: &str = r#"
[[key]]
id     = "acme"
sha256 = "904fc520be4ca9db80d0ffcc6bf7e01b4148e33d45bb6b422ad2e607815fb508"
scopes = ["orders:read", "orders:write"]

[[key]]
id     = "acme"
sha256 = "be7df782af8078ebf81424068223c4993133431d522b67c61168fd9152097eb7"
scopes = ["orders:read"]

[[key]]
id     = "zeta"
sha256 = "bfbbdbf045f2141d8c3cd638670a00cc2cb27a92835d8790be21c1028baf8ee3"
"#;

/// `[auth.api_keys.partners]` with [`KEYS`], and an upstream `up`.
pub(crate) fn partners(url: &str) -> String {
    upstream("up", url) + "[auth.api_keys.partners]\nfile = \"keys.toml\"\n"
}

/// A route for all paths below `prefix`, for who has a key of `partners`.
pub(crate) fn shut(name: &str, prefix: &str, keys: &str) -> String {
    route(name, prefix, "up", keys).replace("public = true", "auth = [\"partners\"]")
}

pub(crate) async fn serve(text: &str) -> Gateway {
    Gateway::serve_with(text, &[("keys.toml", KEYS)]).await
}

/// GETs `path` with these fields.
pub(crate) async fn ask(gateway: &Gateway, path: &str, fields: &str) -> Answer {
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    send(gateway.traffic, head).await
}

fn key(key: &str) -> String {
    format!("x-api-key: {key}\r\n")
}

#[tokio::test]
async fn each_key_of_a_caller_opens_the_route_and_tells_the_upstream_who_called() {
    let up = Upstream::start(always(Reply::ok())).await;
    let tables = to_file(", normal = 1.0") + &partners(&up.url()) + &shut("orders", "/", "");
    let gateway = serve(&config("", &tables)).await;
    for (sent, consumer) in [
        ("acme-key-1", "acme"),
        ("acme-key-2", "acme"),
        ("zeta-key", "zeta"),
    ] {
        let fields =
            key(sent) + "x-consumer-id: admin\r\nx-scopes: all\r\nauthorization: Bearer t\r\n";
        assert_eq!(ask(&gateway, "/", &fields).await.status(), 200, "{sent}");
        let reached = up.requests().pop().unwrap();
        assert_eq!(reached.header("x-consumer-id"), Some(consumer));
        assert_eq!(reached.headers.count("x-consumer-id"), 1);
        for stopped in ["x-api-key", "authorization"] {
            assert_eq!(reached.header(stopped), None, "{stopped}");
        }
    }
    assert_eq!(
        up.requests()[0].header("x-scopes"),
        Some("orders:read orders:write")
    );
    assert_eq!(up.requests()[1].header("x-scopes"), Some("orders:read"));
    assert_eq!(up.requests()[2].header("x-scopes"), None);

    let lines = gateway.logged(3).await;
    let consumers: Vec<_> = lines.iter().map(|line| &line["consumer_id"]).collect();
    assert_eq!(consumers, ["acme", "acme", "zeta"]);
    let text = std::fs::read_to_string(gateway.folder().join("access.log")).unwrap();
    assert!(!text.contains("-key"), "{text}");
    gateway.is_idle().await;
}

/// Story: these fields are also dropped when a stranger sends them, and so were the gateway's own.
#[tokio::test]
async fn who_called_can_be_told_in_fields_that_proxies_use() {
    let up = Upstream::start(always(Reply::ok())).await;
    let mut tables = partners(&up.url()) + &shut("orders", "/", "");
    tables += "[auth]\nidentity_headers = { consumer = \"X-Forwarded-User\", scopes = \"X-Forwarded-Groups\" }\n";
    for server in ["", "trusted_proxies = [\"127.0.0.0/8\"]"] {
        let gateway = serve(&config(server, &tables)).await;
        let fields = key("acme-key-2")
            + "x-forwarded-user: admin\r\nx-forwarded-groups: all\r\nconnection: x-forwarded-user\r\n";
        assert_eq!(ask(&gateway, "/", &fields).await.status(), 200);
        let reached = up.requests().pop().unwrap();
        for (name, value) in [
            ("x-forwarded-user", "acme"),
            ("x-forwarded-groups", "orders:read"),
        ] {
            assert_eq!(reached.header(name), Some(value), "{server}");
            assert_eq!(reached.headers.count(name), 1, "{name}");
        }
    }
}

#[tokio::test]
async fn without_a_key_with_a_wrong_one_and_without_a_scope() {
    let up = Upstream::start(always(Reply::ok())).await;
    let mut tables = partners(&up.url());
    tables += &shut("read", "/read", "scopes = [\"orders:read\"]");
    tables += &shut(
        "write",
        "/write",
        "scopes = [\"orders:read\", \"orders:write\"]",
    );
    let gateway = serve(&config("", &tables)).await;
    let challenge = Some("ApiKey header=\"x-api-key\"");
    for (fields, code) in [
        (String::new(), "AUTH_REQUIRED"),
        (
            "authorization: Bearer acme-key-1\r\n".to_owned(),
            "AUTH_REQUIRED",
        ),
        ("x_api_key: acme-key-1\r\n".to_owned(), "AUTH_REQUIRED"),
        (key(""), "AUTH_INVALID"),
        (key("acme-key-3"), "AUTH_INVALID"),
        (key("ACME-KEY-1"), "AUTH_INVALID"),
        (key("acme-key-1") + &key("acme-key-1"), "AUTH_INVALID"),
        (key(&"k".repeat(8192)), "AUTH_INVALID"),
    ] {
        let answer = ask(&gateway, "/read", &fields).await;
        is_refusal(&fields, &answer, 401, code);
        assert_eq!(answer.header("www-authenticate"), challenge, "{fields}");
        assert!(!answer.text().contains("acme"), "{answer:?}");
    }
    for (path, sent, status) in [
        ("/read", "acme-key-1", 200),
        ("/read", "acme-key-2", 200),
        ("/read", "zeta-key", 403),
        ("/write", "acme-key-1", 200),
        ("/write", "acme-key-2", 403),
        ("/write", "zeta-key", 403),
    ] {
        let answer = ask(&gateway, path, &key(sent)).await;
        assert_eq!(answer.status(), status, "{path} {sent}: {answer:?}");
        if status == 403 {
            is_refusal(path, &answer, 403, "FORBIDDEN");
        }
    }
    assert_eq!(up.requests().len(), 3);
    gateway.is_idle().await;
}

#[tokio::test]
async fn what_is_open_stays_open_and_keys_do_not_pass_there_either() {
    let up = Upstream::start(always(Reply::ok())).await;
    let mut tables = partners(&up.url());
    tables += &route("open", "/open", "up", "");
    tables += &shut("closed", "/closed", "");
    let gateway = serve(&config("default_auth = [\"partners\"]", &tables)).await;
    for fields in [String::new(), key("acme-key-1"), key("nobody's")] {
        assert_eq!(ask(&gateway, "/open", &fields).await.status(), 200);
        assert_eq!(up.requests().pop().unwrap().header("x-api-key"), None);
    }
    // Paths that match nothing are not told to who has no key.
    let answer = ask(&gateway, "/nothing", "").await;
    is_refusal("a scanner", &answer, 401, "AUTH_REQUIRED");
    let answer = ask(&gateway, "/nothing", &key("zeta-key")).await;
    is_refusal("a partner", &answer, 404, "ROUTE_NOT_FOUND");
}

#[tokio::test]
async fn credentials_go_on_if_they_are_to() {
    let up = Upstream::start(always(Reply::ok())).await;
    let tables = partners(&up.url()) + &shut("all", "/", "");
    let text = config("", &tables) + "[auth]\nforward_credentials = true\n";
    let gateway = serve(&text).await;
    let fields = key("acme-key-1") + "authorization: Bearer t\r\n";
    assert_eq!(ask(&gateway, "/", &fields).await.status(), 200);
    let reached = up.requests().pop().unwrap();
    assert_eq!(reached.header("x-api-key"), Some("acme-key-1"));
    assert_eq!(reached.header("authorization"), Some("Bearer t"));
}

/// A route that names API keys and tokens is open to who has a key; one that names tokens alone stays shut, since nobody
/// can check them yet.
#[tokio::test]
async fn a_token_opens_nothing() {
    let up = Upstream::start(always(Reply::ok())).await;
    let mut tables = partners(&up.url());
    tables += "[auth.api_keys.header]\nfile = \"keys.toml\"\nheader = \"authorization\"\n\
               [auth.jwt.main]\nissuer = \"https://i\"\naudience = [\"a\"]\nalgorithms = [\"RS256\"]\n\
               key_file = \"public.pem\"\n";
    let route = |name: &str, auth: &str| {
        shut(name, &format!("/{name}"), "").replace("[\"partners\"]", auth)
    };
    tables += &route("both", "[\"main\", \"partners\"]");
    tables += &route("tokens", "[\"main\"]");
    tables += &route("bearer", "[\"header\"]");
    let gateway = serve(&config("", &tables)).await;
    let token = "authorization: Bearer acme-key-1\r\n";
    for (path, fields, status) in [
        ("/both", key("acme-key-1"), 200),
        ("/both", key("acme-key-1") + token, 200),
        ("/both", token.to_owned(), 401),
        ("/both", String::new(), 401),
        ("/tokens", key("acme-key-1"), 401),
        ("/tokens", token.to_owned(), 401),
        ("/bearer", token.to_owned(), 200),
        ("/bearer", token.replace("Bearer", "bearer"), 200),
        ("/bearer", key("acme-key-1"), 401),
        ("/bearer", token.replace("Bearer", "Basic"), 401),
    ] {
        let answer = ask(&gateway, path, &fields).await;
        assert_eq!(answer.status(), status, "{path} {fields}: {answer:?}");
    }
    let answer = ask(&gateway, "/tokens", "").await;
    is_refusal("no token", &answer, 401, "AUTH_REQUIRED");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
}

/// `check` and `serve` on a configuration whose file of keys holds `keys`, or is not there.
async fn said_of(keys: Option<&str>) -> (TempDir, [(bool, String); 2]) {
    let text = config(
        "",
        &(partners("http://127.0.0.1:1") + &shut("all", "/", "")),
    );
    let (folder, file) = folder(&text);
    if let Some(keys) = keys {
        std::fs::write(folder.path().join("keys.toml"), keys).unwrap();
    }
    let check = command("check", &file).await;
    let check = (check.status.success(), check.err);
    // What `serve` would not refuse, it would serve.
    let serve = match check.0 {
        true => (true, String::new()),
        false => {
            let said = command("serve", &file).await;
            (said.status.success(), said.err)
        }
    };
    (folder, [check, serve])
}

#[tokio::test]
async fn a_file_of_keys_is_read_as_the_configuration_is() {
    let digest = "0".repeat(64);
    let good = format!("[[key]]\nid = \"acme\"\nsha256 = \"{digest}\"\n");
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (keys, line, column, key, told) in [
        ("[[key]\n".to_owned(), 1, 7, "", "not valid TOML"),
        (
            good.replacen(
                "id = \"acme\"
",
                "",
                1,
            ),
            1,
            1,
            "key[0].id",
            "missing",
        ),
        (
            good.clone()
                + "sha512 = 1
",
            4,
            1,
            "key[0].sha512",
            "unknown",
        ),
        (
            good.replace(&digest, "hunter2"),
            3,
            10,
            "key[0].sha256",
            "64 hex digits",
        ),
        (
            good.replace(&digest, empty),
            3,
            10,
            "key[0].sha256",
            "empty text",
        ),
        (
            format!("{good}{good}"),
            6,
            10,
            "key[1].sha256",
            "is there already",
        ),
        (
            good.replace("acme", "a b"),
            2,
            6,
            "key[0].id",
            "visible characters",
        ),
        (
            good.clone() + "scopes = [\"a\", \"b c\"]\n",
            4,
            16,
            "key[0].scopes[1]",
            "one word",
        ),
        (
            good.clone() + "scopes = \"a\"\n",
            4,
            10,
            "key[0].scopes",
            "array",
        ),
        (good.replace("\"acme\"", "7"), 2, 6, "key[0].id", "quotes"),
    ] {
        let (folder, said) = said_of(Some(&keys)).await;
        let place = match key {
            "" => format!("keys.toml:{line}:{column}: "),
            key => format!("keys.toml:{line}:{column}: {key}: "),
        };
        let inner = folder.path().join(place).display().to_string();
        let outer = format!(
            "{}:11:8: auth.api_keys.partners.file: ",
            config_file(&folder)
        );
        for (good, err) in said {
            assert!(!good, "{keys}");
            let fault = err.lines().find(|line| line.starts_with(&outer));
            let fault = fault.unwrap_or_else(|| panic!("{outer} in {err}"));
            assert!(
                fault.contains(&inner) && fault.contains(told),
                "{inner} {told}: {err}"
            );
            // The line at fault may hold a key in the place of its digest.
            assert!(!err.contains("hunter2"), "{err}");
        }
    }
    let (_, [(good, err), _]) = said_of(Some(&good)).await;
    assert!(good && !err.contains("auth"), "{err}");
}

fn config_file(folder: &TempDir) -> String {
    Path::new(folder.path())
        .join("gateway.toml")
        .display()
        .to_string()
}

/// Nobody has a key then; the routes are shut, and it is said.
#[tokio::test]
async fn a_file_of_keys_that_is_not_there_opens_nothing() {
    let (_folder, [(good, err), _]) = said_of(None).await;
    let note = "note: auth.api_keys.partners.file: does not exist";
    assert!(
        good && err.lines().any(|line| line.starts_with(note)),
        "{err}"
    );
    let text = config(
        "",
        &(partners("http://127.0.0.1:1") + &shut("all", "/", "")),
    );
    let gateway = Gateway::serve(&text).await;
    let answer = ask(&gateway, "/", &key("acme-key-1")).await;
    is_refusal("any key", &answer, 401, "AUTH_INVALID");
}
