//! Addresses that cannot be listened on, and what listeners take.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use gw_testkit::client::Client;
use gw_testkit::redis::free_port;

use crate::gateway::{Gateway, all_to, command, config, folder};

#[tokio::test]
async fn a_taken_address_is_told_with_its_line_and_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = "127.0.0.1:0".to_owned();
    for (at, place, key) in [
        (0, "2:11", "server.listen[0]"),
        (1, "2:26", "server.listen[1]"),
        (2, "4:10", "health.listen"),
        (3, "6:10", "admin.listen"),
        (4, "10:11", "lanes.lane.core.listen[0]"),
    ] {
        let pick = |index| if index == at { &address } else { &free };
        let text = format!(
            "[server]\nlisten = [\"{}\", \"{}\"]\n[health]\nlisten = \"{}\"\n[admin]\nlisten = \"{}\"\n\
             [lanes.lane.core]\nguaranteed = 1.0\nthreads = 1\nlisten = [\"{}\"]\n{}",
            pick(0),
            pick(1),
            pick(2),
            pick(3),
            pick(4),
            all_to("http://127.0.0.1:1", "")
        );
        let (_folder, file) = folder(&text);
        let said = command("serve", &file).await;
        let told = said.refused();
        let start = format!("{}:{place}: {key}: ", file.display());
        let line = told.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no `{start}` in\n{told}"));
        assert!(
            line.contains(&address) && line.contains("another program"),
            "{line}"
        );
        // A gateway that cannot start must not say that it listens.
        assert!(!told.contains("listening"), "{told}");

        // `check` looks at the file, not at the machine.
        command("check", &file).await.succeeded();
    }
}

#[tokio::test]
async fn an_address_of_another_machine_is_told() {
    // 192.0.2.0/24 is for documentation (RFC 5737): no machine has it.
    let text = format!(
        "[server]\nlisten = [\"192.0.2.1:8080\"]\n{}",
        all_to("http://127.0.0.1:1", "")
    );
    let (_folder, file) = folder(&text);
    let said = command("serve", &file).await;
    let told = said.refused();
    assert!(
        told.contains(":2:11: server.listen[0]: cannot listen on 192.0.2.1:8080"),
        "{told}"
    );
}

/// Story: `[::]` takes IPv4 as well, so the second of the two could not be bound, although `check` found nothing.
#[tokio::test]
async fn all_addresses_of_both_versions_share_a_port() {
    let (one, other) = (free_port(), free_port());
    let text = format!(
        "[server]\nlisten = [\"0.0.0.0:{one}\", \"[::]:{one}\", \"[::]:{other}\"]\n\
         [health]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{}",
        all_to("http://127.0.0.1:1", "")
    );
    let _gateway = Gateway::serve(&text).await;
    // Where it stands alone it takes both, as ever.
    for port in [one, other] {
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let mut client = Client::connect(SocketAddr::new(ip, port)).await;
            client.get("/").await;
            assert_eq!(client.read_answer().await.status(), 502, "{ip} {port}");
        }
    }
}

/// Story: the health listener took ten thousand connections, as many as the traffic may have, out of the same descriptors.
#[tokio::test]
async fn listeners_for_operators_take_few_connections() {
    let gateway = Gateway::serve(&config("", &all_to("http://127.0.0.1:1", ""))).await;
    for (address, page) in [(gateway.health, "/healthz"), (gateway.admin, "/lanes")] {
        let mut first = Client::connect(address).await;
        first.get(page).await;
        assert_eq!(first.read_answer().await.status(), 200);
        let mut others = Vec::new();
        for _ in 0..63 {
            others.push(Client::connect(address).await);
        }
        let mut beyond = Client::connect(address).await;
        let request = format!("GET {page} HTTP/1.1\r\nhost: a\r\n\r\n");
        // It may be closed already.
        _ = beyond.try_send(&request).await;
        let answer = beyond.read_answer().await;
        assert!(answer.head.is_none(), "{page}: {answer:?}");
        first.get(page).await;
        assert_eq!(first.read_answer().await.status(), 200, "{page}");
    }
}
