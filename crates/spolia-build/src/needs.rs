//! The outputs of a step, ready for another one that runs on them. Knows no schedule.

use std::path::PathBuf;

use spolia_core::template::{self, Piece, Placeholder};
use spolia_core::{Action, RelPath, Tree};
use spolia_engine::perform::chain;
use spolia_store::tree::{FolderSource, MaterialiseError, MaterialiseOptions};
use spolia_store::{Lock, Place, is_right, materialise};

use crate::build::Build;
use crate::claim::Claim;
use crate::graph::NodeId;
use crate::manifest::EngineKind;

/// How often the outputs a step needs are put right before it gives up.
const TRIES_MAX: usize = 5;

/// Whether a step sees the folder of the outputs of `step` at all, or at most finds them where they are
/// published: on the host nothing but its placeholder leads there.
fn is_seen(action: &Action, engine: EngineKind, step: &str) -> bool {
    let is_it = |piece: &Piece<'_>| match piece {
        Piece::Placeholder(Placeholder::Step(name), _) => *name == step,
        _ => false,
    };
    let names = |text: &Vec<u8>| {
        let text = std::str::from_utf8(text).ok();
        let found = text.and_then(|text| template::placeholders(text).ok());
        found.is_some_and(|found| found.pieces.iter().any(is_it))
    };
    engine == EngineKind::Sandbox || action.command.argv.iter().chain(action.env.values()).any(names)
}

impl Build<'_> {
    /// A folder that holds the outputs of `need`, and nothing else where `action` can see it, with the claim
    /// by which it stays so.
    pub(crate) fn needs_folder(
        &self,
        need: NodeId,
        action: &Action,
        engine: EngineKind,
    ) -> Result<(PathBuf, Option<Lock>), String> {
        let node = self.graph.node(need);
        if node.body.outputs.is_empty() {
            let empty = self.own().join("needs").join("nothing");
            std::fs::create_dir_all(&empty).map_err(|error| error.to_string())?;
            return Ok((empty, None));
        }
        let Some(known) = self.remembered(need) else {
            return Err(format!("the outputs of {} are not known", node.id));
        };
        let tree = &known.result.outputs;
        let published = Place { root: &self.session.root, at: &node.place.at };
        if node.place.exact || !is_seen(action, engine, &node.id.step) {
            return self.needs_at(need, tree, published, node.place.exact);
        }
        // Published among other files, they are put together apart.
        let own = self.own();
        let apart = format!("needs/{}/{}", node.id.step, node.id.platform);
        let apart = RelPath::new(apart).map_err(|error| error.to_string())?;
        self.needs_at(need, tree, Place { root: &own, at: &apart }, true)
    }

    fn needs_at(
        &self,
        need: NodeId,
        tree: &Tree,
        place: Place<'_>,
        exact: bool,
    ) -> Result<(PathBuf, Option<Lock>), String> {
        let mut wrong = String::new();
        for _ in 0..TRIES_MAX {
            let claimed = self.claim(need, Claim::Use).map_err(|stopped| stopped.to_string())?.ok();
            // Whatever somebody else has put there would be an input that is in no key: another build of
            // this tree, which is at another state of it, for one.
            if is_right(tree, place, self.digests, exact) {
                return Ok((place.at.under(place.root), claimed));
            }
            drop(claimed);
            let _alone = self.claim(need, Claim::Change).map_err(|stopped| stopped.to_string())?.ok();
            wrong = match self.put_right(need, tree, place, exact) {
                Ok(()) => "another build of this tree keeps replacing them".to_owned(),
                Err(error) if error.is_miss() => {
                    format!("it cannot be undone, the store does not have them ({})", chain(&error))
                }
                Err(error) => chain(&error),
            };
        }
        let name = &self.graph.node(need).id;
        Err(format!("the outputs of {name}, which it needs, were replaced: {wrong}"))
    }

    /// From what is published, or from the store.
    fn put_right(
        &self,
        need: NodeId,
        tree: &Tree,
        place: Place<'_>,
        exact: bool,
    ) -> Result<(), MaterialiseError> {
        let options = MaterialiseOptions { exact, digests: Some(self.digests), ..Default::default() };
        let node = self.graph.node(need);
        let published = node.place.at.under(&self.session.root);
        if let Ok(fresh) = FolderSource::new(&published, tree)
            && materialise(tree, &fresh, place, options).is_ok()
        {
            return Ok(());
        }
        materialise(tree, &*self.engine.store, place, options).map(drop)
    }
}
