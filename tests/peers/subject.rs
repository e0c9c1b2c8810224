//! What is measured: cases, each with some ways of doing the same.

use std::fmt;

use gw_tests::bench::Result;

/// Some ways of doing the same, of which the first does nothing but what all of them do.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name in the table.
    pub name: &'static str,
    build: fn(u64) -> Result<Vec<Subject>>,
}

impl Case {
    /// A case whose subjects `build` makes, for so many keys where keys are many.
    pub const fn new(name: &'static str, build: fn(u64) -> Result<Vec<Subject>>) -> Self {
        Self { name, build }
    }

    /// Its subjects, with all the state they need; the floor is the first.
    ///
    /// # Errors
    ///
    /// If one of them refuses its configuration.
    pub fn subjects(&self, keys: u64) -> Result<Vec<Subject>> {
        (self.build)(keys)
    }
}

/// One way of doing what a case is about.
pub struct Subject {
    /// Its name in the table.
    pub name: &'static str,
    /// Which of ours it is to be compared with.
    pub beside: Option<&'static str>,
    /// What it holds for each key, where it holds many.
    pub bytes_a_key: Option<f64>,
    /// Whether one thread does it all, so that its allocations can be counted.
    pub alone: bool,
    run: Box<dyn FnMut(u64) -> u64>,
}

impl Subject {
    /// `once` does it once, and says whether that came out as it should.
    pub fn new(name: &'static str, mut once: impl FnMut() -> bool + 'static) -> Self {
        // The loop is in here: the call through the box is paid once for many.
        Self::of_many(name, move |times| {
            (0..times).map(|_| u64::from(once())).sum()
        })
    }

    /// `many` does it so many times, and says how often it came out as it should.
    pub fn of_many(name: &'static str, many: impl FnMut(u64) -> u64 + 'static) -> Self {
        Self {
            name,
            beside: None,
            bytes_a_key: None,
            alone: true,
            run: Box::new(many),
        }
    }

    /// A peer of one of ours.
    #[must_use]
    pub fn beside(mut self, ours: &'static str) -> Self {
        self.beside = Some(ours);
        self
    }

    /// It holds keys in so many bytes each, if that is known.
    #[must_use]
    pub const fn holding(mut self, bytes_a_key: Option<f64>) -> Self {
        self.bytes_a_key = bytes_a_key;
        self
    }

    /// Several threads do it.
    #[must_use]
    pub fn by_threads(mut self) -> Self {
        self.alone = false;
        self
    }

    /// Does it so many times.
    ///
    /// # Errors
    ///
    /// If it did not come out as it should each time: then what it cost says nothing.
    pub fn run(&mut self, times: u64) -> Result<()> {
        let right = (self.run)(times);
        if right == times {
            return Ok(());
        }
        Err(format!("{}: {right} of {times} came out right", self.name).into())
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
