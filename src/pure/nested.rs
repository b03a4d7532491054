//! What a transaction notes on its way, kept by savepoint: a note is merged into the enclosing one's when
//! its savepoint is released, and dropped when it is rolled back to.

/// Notes that can be put together.
pub trait Notes: Default {
    /// Takes in what was noted later.
    fn absorb(&mut self, later: Self);
}

/// Notes of the transaction (the first level) and of the subtransactions that are open. Most transactions have
/// one level; one that notes nothing has none.
pub struct Nested<T> {
    /// (subtransaction, its notes), outermost first. Ids grow with each subtransaction that is begun.
    levels: Vec<(u32, T)>,
}

impl<T> Default for Nested<T> {
    fn default() -> Self {
        Nested { levels: Vec::new() }
    }
}

impl<T: Notes> Nested<T> {
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// What the open subtransaction has noted.
    pub fn open(&mut self, subtransaction: u32) -> &mut T {
        if self.levels.last().is_none_or(|(id, _)| *id != subtransaction) {
            self.levels.push((subtransaction, T::default()));
        }
        &mut self.levels.last_mut().expect("pushed above").1
    }

    /// All that stands, whatever level it is of.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.levels.iter().map(|(_, notes)| notes)
    }

    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.levels.iter_mut().map(|(_, notes)| notes)
    }

    /// A subtransaction is released into its parent.
    pub fn released(&mut self, subtransaction: u32, parent: u32) {
        let Some((id, notes)) = self.levels.pop_if(|(id, _)| *id == subtransaction) else { return };
        debug_assert_eq!(id, subtransaction);
        match self.levels.last_mut() {
            Some((id, outer)) if *id == parent => outer.absorb(notes),
            _ => self.levels.push((parent, notes)),
        }
    }

    /// A subtransaction is rolled back, and all that was begun since: what they had noted, for what is to be undone.
    pub fn rolled_back(&mut self, subtransaction: u32) -> impl Iterator<Item = T> {
        let stay = self.levels.iter().take_while(|(id, _)| *id < subtransaction).count();
        self.levels.drain(stay..).map(|(_, notes)| notes)
    }

    /// The end of the transaction: all that stands, in one. None: nothing was noted.
    pub fn take(&mut self) -> Option<T> {
        let mut levels = self.levels.drain(..).map(|(_, notes)| notes);
        let mut all = levels.next()?;
        levels.for_each(|later| all.absorb(later));
        Some(all)
    }
}
