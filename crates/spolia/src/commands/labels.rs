//! What results are called: steps by what is kept with them, compiler calls by their statistics.

use std::cell::OnceCell;
use std::collections::HashMap;

use spolia_cc::tally::{self, Called};
use spolia_core::ActionKey;
use spolia_engine::perform::{self, Description};
use spolia_store::LocalStore;

/// Names of a store's results. The statistics are read once, when the first compiler call is asked for.
pub(crate) struct Labels<'s> {
    store: &'s LocalStore,
    calls: OnceCell<HashMap<ActionKey, Called>>,
}

impl<'s> Labels<'s> {
    pub(crate) fn of(store: &'s LocalStore) -> Self {
        Self { store, calls: OnceCell::new() }
    }

    /// The compiler call that `key` is of, if it was counted.
    pub(crate) fn called(&self, key: ActionKey) -> Option<&Called> {
        // Without statistics there are no names.
        let calls =
            || tally::read(self.store, 0).map(|read| tally::by_key(&read.records)).unwrap_or_default();
        self.calls.get_or_init(calls).get(&key)
    }

    /// What is kept with the result, with a compiler call's name where that is all that is known.
    pub(crate) fn describe(&self, key: ActionKey) -> Description {
        let mut description = perform::describe(self.store, key).unwrap_or_default();
        if description.label.is_none()
            && let Some(called) = self.called(key)
        {
            description.label = Some(called.label());
            description.project = Some(called.folder.clone());
        }
        description
    }

    /// The name for a person.
    pub(crate) fn shown(&self, key: ActionKey) -> String {
        self.describe(key).label.unwrap_or_else(|| "(not recorded)".to_owned())
    }
}
