//! Exit codes: the contract with CI. A verdict can always be told from a crash.

/// How the process ends. The numbers are public and never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Pass; warnings do not change it.
    Pass,
    /// A check or a gate failed.
    Fail,
    /// Usage or configuration error; also a file that cannot be parsed.
    Usage,
    /// Run or infrastructure error: I/O, device, store, internal bug.
    Run,
    /// Inconclusive: too few rows, holdout budget spent.
    Inconclusive,
    /// Nothing to check: no rows, no rules, no matching dataset.
    Nothing,
    /// Stopped on request after a durable checkpoint; the same command continues.
    Stopped,
    /// Ended by SIGINT before a checkpoint was possible.
    Interrupted,
    /// Ended by SIGTERM before a checkpoint was possible.
    Terminated,
}

impl Exit {
    /// The process exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Usage => 2,
            Self::Run => 3,
            Self::Inconclusive => 4,
            Self::Nothing => 5,
            Self::Stopped => 75,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// Of several results, the one that decides: 143, 130, 75, then 3, 2, 1, 4, 5, 0.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if self.rank() < other.rank() { other } else { self }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Nothing => 1,
            Self::Inconclusive => 2,
            Self::Fail => 3,
            Self::Usage => 4,
            Self::Run => 5,
            Self::Stopped => 6,
            Self::Interrupted => 7,
            Self::Terminated => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn a_crash_outranks_a_verdict() {
        assert_eq!(Exit::Fail.worst(Exit::Run), Exit::Run);
        assert_eq!(Exit::Fail.worst(Exit::Inconclusive), Exit::Fail);
        assert_eq!(Exit::Nothing.worst(Exit::Inconclusive), Exit::Inconclusive);
        assert_eq!(Exit::Pass.worst(Exit::Nothing), Exit::Nothing);
    }
}
