//! A server that speaks TLS, and certificates of a test's own.

use std::path::Path;
use std::time::Duration;

use gw_ratelimit::redis::{Leases, OnFailure, RedisStore, SharedLimiter};
use gw_ratelimit::{ConfigError, Limiter, Quota};
use gw_testkit::redis::free_port;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};

use crate::server::{SECRET, Server};

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A chain and its key, as PEM.
struct Pair {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name = named("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    fn issue(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name = named(name);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Different for each, or it would look as if it had signed itself.
fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// With a certificate for 127.0.0.1, and the port that speaks TLS.
fn server(authority: &Authority, asks_clients: &str, folder: &Path) -> (Server, u16) {
    let pair = authority.issue("127.0.0.1");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [chain, key, root] = [
        write("chain.pem", &pair.chain),
        write("key.pem", &pair.key),
        write("root.pem", &authority.pem()),
    ];
    let port = free_port();
    let number = port.to_string();
    let server = Server::with(&[
        "--tls-port",
        &number,
        "--tls-cert-file",
        &chain,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &root,
        "--tls-auth-clients",
        asks_clients,
    ]);
    (server, port)
}

fn store(host: &str, port: u16) -> RedisStore {
    RedisStore::new(format!("rediss://{host}:{port}"), "test", SECRET)
        .timeout(Duration::from_secs(5))
        .probe_after(Duration::from_secs(3600))
        .on_failure(OnFailure::Closed)
}

fn build(store: &RedisStore) -> Result<SharedLimiter, ConfigError> {
    let limits = Limiter::builder().policy("p", Quota::per_hour(1).burst(5));
    limits.build_shared(store)
}

async fn allowed(store: &RedisStore) -> usize {
    let limiter = build(store).unwrap();
    let policy = limiter.policy("p").unwrap();
    let mut allowed = 0;
    for _ in 0..10 {
        allowed += usize::from(limiter.check(policy, "k", 1).await.is_allowed());
    }
    let asked = limiter.store();
    assert_eq!(asked.failed == 0, allowed > 0, "{asked:?}");
    allowed
}

#[tokio::test]
async fn limits_are_shared_over_tls_with_a_server_that_is_who_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let (server, port) = server(&authority, "no", folder.path());
    let trusting = store("127.0.0.1", port).root_certificates(authority.pem());
    assert_eq!(allowed(&trusting).await, 5);
    // It is the same server, and the same debt.
    assert_eq!(server.keys().await.len(), 1);

    // Somebody else's word, and the system's: it is not believed who it is.
    let refusing = store("127.0.0.1", port).root_certificates(other.pem());
    assert_eq!(allowed(&refusing).await, 0);
    match build(&store("127.0.0.1", port)) {
        Ok(limiter) => assert!(!limiter.connect().await),
        // A machine without any of the system's.
        Err(error) => assert_eq!(error.field(), "root_certificates"),
    }
    // Another name than the certificate's.
    let misnamed = store("localhost", port).root_certificates(authority.pem());
    assert_eq!(allowed(&misnamed).await, 0);
    // And a port that does not speak it.
    let plain = store("127.0.0.1", server.port()).root_certificates(authority.pem());
    assert_eq!(allowed(&plain).await, 0);
    // None of them has taken anything.
    let limiter = build(&trusting.leases(Leases::up_to(2))).unwrap();
    let policy = limiter.policy("p").unwrap();
    assert_eq!(
        limiter.peek(policy, None, "k").await.unwrap().remaining(),
        0
    );
    assert!(limiter.reset(policy, "k").await);
}

#[tokio::test]
async fn a_server_that_asks_clients_who_they_are_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (_server, port) = server(&authority, "yes", folder.path());
    let store = store("127.0.0.1", port).root_certificates(authority.pem());
    assert_eq!(allowed(&store).await, 0);
    let stranger = Authority::new().issue("stranger");
    let strange = store
        .clone()
        .client_certificate(&stranger.chain, &stranger.key);
    assert_eq!(allowed(&strange).await, 0);
    let pair = authority.issue("gateway");
    assert_eq!(
        allowed(&store.client_certificate(&pair.chain, &pair.key)).await,
        5
    );
}

#[test]
fn certificates_that_are_none_are_refused() {
    let authority = Authority::new();
    let (pair, another) = (authority.issue("a"), authority.issue("b"));
    let good = || store("127.0.0.1", 1).root_certificates(authority.pem());
    assert!(build(&good()).is_ok());
    for (store, field) in [
        (
            good().root_certificates("no certificate"),
            "root_certificates",
        ),
        (good().root_certificates(&pair.key), "root_certificates"),
        (
            good().client_certificate("", &pair.key),
            "client_certificate",
        ),
        (
            good().client_certificate(&pair.chain, &pair.chain),
            "client_certificate",
        ),
        (
            good().client_certificate(&pair.chain, &another.key),
            "client_certificate",
        ),
        (
            RedisStore::new("redis://127.0.0.1:1", "n", SECRET).root_certificates(authority.pem()),
            "url",
        ),
        (
            RedisStore::new("rediss://127.0.0.1:1/#insecure", "n", SECRET)
                .root_certificates(authority.pem()),
            "url",
        ),
    ] {
        let error = build(&store).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
        assert!(!format!("{store:?} {error}").contains("PRIVATE"));
    }
}
