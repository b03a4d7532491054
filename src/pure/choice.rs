//! Closed choices: parameters that are one word of a few.
//!
//! Each is an enum, made by [`choices!`]: the word of each variant, as SQL has it, stands beside the variant and nowhere
//! else. Text becomes a choice where it comes in, at a call or as a row is read, and is matched without a rest from there
//! on. A row's owner can write any word into it; until it is known what that means for the row it is a [`Said`].

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One word of a few.
pub trait Named: Copy + PartialEq + 'static {
    /// In the order in which messages list them.
    const ALL: &'static [Self];

    /// Its word in SQL.
    fn name(self) -> &'static str;

    fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|choice| choice.name() == word)
    }

    /// The value of a task's, queue's or tenant's parameter `what`.
    fn one_of(what: &str, word: &str) -> Result<Self, Unknown> {
        Self::of(word)
            .ok_or_else(|| Unknown { message: format!("{what} is \"{word}\""), hint: format!("It is one of {}.", list::<Self>()) })
    }

    /// The value of a schedule's parameter `what`.
    fn known(what: &str, word: &str) -> Result<Self, Unknown> {
        Self::of(word).ok_or_else(|| Unknown::of::<Self>(what, word))
    }
}

/// A word that is none of the choice's: what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub message: String,
    pub hint: String,
}

impl Unknown {
    /// The value of a schedule's parameter `what`.
    pub fn of<C: Named>(what: &str, word: &str) -> Unknown {
        Unknown { message: format!("{what} \"{word}\" is not known"), hint: use_one_of::<C>() }
    }
}

fn list<C: Named>() -> String {
    C::ALL.iter().map(|choice| choice.name()).collect::<Vec<_>>().join(", ")
}

/// A hint: "Use … or …."
pub fn use_one_of<C: Named>() -> String {
    let quoted: Vec<String> = C::ALL.iter().map(|choice| format!("\"{}\"", choice.name())).collect();
    match quoted.split_last() {
        Some((last, [])) => format!("Use {last}."),
        Some((last, others)) => format!("Use {} or {last}.", others.join(", ")),
        None => String::new(),
    }
}

/// Enums whose variants are words of SQL; see [`Named`].
macro_rules! choices {
    ($($(#[$about:meta])* $sees:vis enum $name:ident { $($(#[$of_one:meta])* $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $sees enum $name { $($(#[$of_one])* $variant,)+ }

        impl $crate::pure::choice::Named for $name {
            const ALL: &'static [$name] = &[$($name::$variant),+];

            fn name(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }
    )+};
}
pub(crate) use choices;

/// What somebody has written where a choice should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<C> {
    Known(C),
    Unknown(String),
}

impl<C: Named> Said<C> {
    pub fn of(word: String) -> Said<C> {
        C::of(&word).map_or(Said::Unknown(word), Said::Known)
    }

    pub fn word(&self) -> &str {
        match self {
            Said::Known(choice) => choice.name(),
            Said::Unknown(word) => word,
        }
    }

    /// None: it is none.
    pub fn choice(&self) -> Option<C> {
        match self {
            Said::Known(choice) => Some(*choice),
            Said::Unknown(_) => None,
        }
    }

    /// The choice; `fault` says what is wrong with another word.
    pub fn or_fault<E>(&self, fault: impl FnOnce(&str) -> E) -> Result<C, E> {
        match self {
            Said::Known(choice) => Ok(*choice),
            Said::Unknown(word) => Err(fault(word)),
        }
    }
}

impl<C: Named> Serialize for Said<C> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}

impl<'de, C: Named> Deserialize<'de> for Said<C> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Said<C>, D::Error> {
        String::deserialize(from).map(Said::of)
    }
}

choices! {
    /// How long a task keeps its unique key.
    #[derive(Default)]
    pub enum UniqueUntil {
        /// An attempt begins.
        Started = "started",
        /// The task is final.
        #[default]
        Finished = "finished",
        /// Its result goes.
        Deleted = "deleted",
    }

    /// What to do where one is there already: of a unique key, or a schedule of that name.
    #[derive(Default)]
    pub enum OnConflict {
        #[default]
        Error = "error",
        /// The one that is there stays.
        Skip = "skip",
        /// It goes, and the new one takes its place.
        Replace = "replace",
    }

    /// The same, as those say it who declare schedules.
    #[derive(Default)]
    pub enum OnRedeclared {
        #[default]
        Error = "error",
        Replace = "replace",
        Nothing = "nothing",
    }

    /// Which of the tasks that it depends on a task waits for.
    #[derive(Default)]
    pub enum DependsMode {
        #[default]
        All = "all",
        Any = "any",
    }

    /// How a task has ended, as one that depends on it keeps it.
    pub enum Settled {
        Done = "done",
        Failed = "failed",
        Cancelled = "cancelled",
        Expired = "expired",
        Quarantined = "quarantined",
        /// Nobody can tell any more.
        Gone = "gone",
    }

    /// Of what the newest successes are counted that a tenant keeps.
    pub enum SavePer {
        None = "none",
        Group = "group",
        Name = "name",
        Handler = "handler",
    }

    /// Ends that count for a schedule which comes after others.
    #[derive(Default)]
    pub enum AfterOutcome {
        #[default]
        Success = "success",
        Failure = "failure",
        Any = "any",
    }
}

impl From<OnRedeclared> for OnConflict {
    fn from(on: OnRedeclared) -> OnConflict {
        match on {
            OnRedeclared::Error => OnConflict::Error,
            OnRedeclared::Replace => OnConflict::Replace,
            OnRedeclared::Nothing => OnConflict::Skip,
        }
    }
}
