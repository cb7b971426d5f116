//! How much the tests try. `tests/run` has three lengths, which are the profiles of `.config/nextest.toml`; which tests
//! the short one leaves out stands there too.

/// How long a run may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Length {
    /// Some minutes: `tests/run`, and whatever is run without a profile.
    Short,
    /// Bounded, on a machine that has nothing else to do: `tests/run --ci`.
    Ci,
    /// However long it takes: `tests/run --all`.
    All,
}

/// That of this run. cargo-nextest names the profile.
pub fn length() -> Length {
    match std::env::var("NEXTEST_PROFILE").as_deref() {
        Ok("ci") => Length::Ci,
        Ok("all") => Length::All,
        _ => Length::Short,
    }
}

/// A number that depends on it.
pub fn by_length<T>(short: T, ci: T, all: T) -> T {
    match length() {
        Length::Short => short,
        Length::Ci => ci,
        Length::All => all,
    }
}
