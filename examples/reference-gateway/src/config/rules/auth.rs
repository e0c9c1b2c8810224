//! Authenticators.

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::server::{OURS, TAKEN, is_ours, is_taken};
use crate::config::finding::{Findings, KeyPath};
use crate::config::table::{File, Jwt, KeySource};

pub(super) fn check(file: &File, findings: &mut Findings) {
    let (auth, at) = (&file.auth, KeyPath::of("auth"));
    for name in auth
        .api_keys
        .keys()
        .filter(|name| auth.jwt.contains_key(*name))
    {
        let rule = "is also the name of a [auth.jwt] table: routes could not tell them apart";
        findings.at_key(at.key("api_keys").key(name), rule);
    }
    for (name, jwt) in &auth.jwt {
        check_jwt(jwt, &at.key("jwt").key(name), findings);
    }

    // `Authorization` goes on or does not as `forward_credentials` says, as any other field with keys.
    for (name, keys) in &auth.api_keys {
        let at = at.key("api_keys").key(name).key("header");
        let ours = keys.header != AUTHORIZATION && is_ours(&keys.header);
        let is_request_id = keys.header == file.server.request_id.header;
        findings.check(is_taken(&keys.header), at.clone(), TAKEN);
        findings.check(ours || is_request_id, at, OURS);
    }

    let headers = &auth.identity_headers;
    let named: [(&str, &HeaderName); 3] = [
        ("consumer", &headers.consumer),
        ("user", &headers.user),
        ("scopes", &headers.scopes),
    ];
    for (i, (key, header)) in named.iter().enumerate() {
        let ours = is_ours(header) || *header == file.server.request_id.header;
        findings.check(is_taken(header), at.key("identity_headers").key(key), TAKEN);
        findings.check(ours, at.key("identity_headers").key(key), OURS);
        if let Some((other, _)) = named.iter().take(i).find(|(_, other)| other == header) {
            let rule = format!("is the header of `{other}` already: each needs its own");
            findings.at(at.key("identity_headers").key(key), rule);
        }
    }
}

fn check_jwt(jwt: &Jwt, at: &KeyPath, findings: &mut Findings) {
    findings.check(jwt.issuer.is_empty(), at.key("issuer"), "must not be empty");
    let audience = jwt.audience.is_empty() || jwt.audience.iter().any(String::is_empty);
    findings.check(
        audience,
        at.key("audience"),
        "must hold at least one name, and no empty one",
    );
    findings.check(
        jwt.algorithms.is_empty(),
        at.key("algorithms"),
        "must hold at least one, such as [\"RS256\"]",
    );

    // A public key taken for a shared secret would let anyone sign.
    let secret = matches!(jwt.keys, KeySource::Secret(_));
    for (i, algorithm) in jwt.algorithms.iter().enumerate() {
        let rule = if secret {
            "does not go with `secret_file`: a shared secret is for HS256, HS384 and HS512"
        } else {
            "needs a shared secret: use `secret_file`, or an algorithm with public keys"
        };
        findings.check(
            algorithm.is_symmetric() != secret,
            at.key("algorithms").index(i),
            rule,
        );
    }
}
