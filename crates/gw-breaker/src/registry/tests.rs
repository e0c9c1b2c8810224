use super::*;

const KEY: u64 = 7;

fn registry() -> Registry {
    let config = BreakerConfig::new();
    let shared = Breaker::new("other", &config).unwrap();
    let rules = Rules::new(&config).unwrap();
    let capacity = NonZeroU32::new(10).unwrap();
    Registry::new(
        shared,
        rules,
        Mode::Enforce,
        capacity,
        Duration::from_secs(60),
    )
}

#[test]
fn a_change_that_comes_while_one_is_made_is_not_missed() {
    let now = Instant::now();
    let registry = registry();
    let before = registry.beginning(now).unwrap();
    registry.set_mode(Mode::Off, now);
    assert_eq!(registry.begin(KEY, None, &before, now).mode(), Mode::Off);
    assert_eq!(registry.find(KEY).unwrap().mode(), Mode::Off);

    let registry = self::registry();
    let before = registry.beginning(now).unwrap();
    let config = BreakerConfig::new().consecutive_failures(1);
    registry.reconfigure(&config, now).unwrap();
    let made = registry.begin(KEY, None, &before, now);
    assert_eq!(made.config(), config);
}

#[test]
fn the_pause_grows_with_the_places_to_a_limit() {
    let micros = |places| pause(places).as_micros();
    assert_eq!([1, 100, 1_024].map(micros), [100, 10_000, 100_000]);
    assert_eq!(pause(usize::MAX), LONGEST_PAUSE);
}
