//! The order of stages is a type: what is in the wrong order does not compile, and the message says why.

use std::collections::BTreeSet;

const ORDER: [&str; 12] = [
    "Observe",
    "RequestId",
    "RouteResolve",
    "IpFilter",
    "PreAuthLimit",
    "Admit",
    "Authenticate",
    "PostAuthLimit",
    "Authorize",
    "Validate",
    "Transform",
    "Forward",
];

/// `trybuild` holds the compiler's messages against the `.stderr` files; the test below counts in them.
#[test]
fn wrong_orders_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/order/*.rs");
}

#[test]
fn every_forbidden_pair_is_named_in_a_sentence() {
    let expected: BTreeSet<(&str, &str)> = (0..ORDER.len())
        .flat_map(|last| (0..=last).map(move |next| (ORDER[next], ORDER[last])))
        .filter(|pair| *pair != ("Forward", "Forward"))
        .collect();
    assert_eq!(expected.len(), 66 + 11);

    let sentences: Vec<(&str, &str)> = include_str!("order/forbidden.stderr")
        .lines()
        .filter_map(named_stages)
        .collect();
    assert_eq!(
        sentences.len(),
        expected.len(),
        "one sentence for each mistake"
    );
    assert_eq!(sentences.into_iter().collect::<BTreeSet<_>>(), expected);
}

/// The two stages in "error[E0277]: `A` cannot be placed after `B`: …", without their paths.
fn named_stages(line: &'static str) -> Option<(&'static str, &'static str)> {
    let (next, rest) = line
        .strip_prefix("error[E0277]: `")?
        .split_once("` cannot be placed after `")?;
    let (last, _) = rest.split_once('`')?;
    let slot = |path: &'static str| path.rsplit("::").next();
    Some((slot(next)?, slot(last)?))
}
