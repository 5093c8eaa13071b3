//! `Body + outputs of steps + files of the tree → PlatformPlan`: which file stands where in an archive, with mode,
//! size and digest. Pure: reads no disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spolia_core::event::StepId;
use spolia_core::glob::PatternList;
use spolia_core::key::{KeyWriter, Value};
use spolia_core::path::escape;
use spolia_core::tree::TreeError;
use spolia_core::{ActionKey, Digest, Node, Platform, RelPath, Tree};

use crate::archive::Format;
use crate::error::DistError;
use crate::facts::Facts;
use crate::manifest::{Body, Dist, FileRule, Pick};
use crate::text;

/// The mode of a file that is no program.
pub const PLAIN: u32 = 0o644;
/// The mode of a program, and of every folder.
pub const PROGRAM: u32 = 0o755;

/// A step that was built, as far as packing needs it.
#[derive(Clone, Debug)]
pub struct Built {
    /// Which.
    pub id: StepId,
    /// Its key.
    pub key: ActionKey,
    /// Whether it ran where only what is declared is there: then its key names no folder of this machine.
    pub guarded: bool,
    /// The folder its outputs are published in, absolute.
    pub place: PathBuf,
    /// Its outputs.
    pub outputs: Arc<Tree>,
    /// What it needs.
    pub needs: Vec<StepId>,
    /// The identity of each tool it declares, by name.
    pub tools: BTreeMap<String, String>,
    /// The identity of the system's folders, where they are in its key.
    pub system: Option<String>,
    /// What it fetches, where it declares that.
    pub source: Option<spolia_build::manifest::Source>,
    /// Whether it reaches the network.
    pub network: bool,
}

/// What stands at one path of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// BLAKE3 of its content.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// Where its bytes are.
        at: PathBuf,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A folder.
    Folder,
}

/// Where a member comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// An output of this step.
    Step(StepId),
    /// A file of the tree, relative to the root.
    Tree(RelPath),
    /// A folder that something else needs, or that was asked for.
    Made,
}

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path in the archive.
    pub path: RelPath,
    /// Its mode: permission bits only.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
    /// Where it comes from.
    pub origin: Origin,
}

/// One archive, as it will be.
#[derive(Clone, Debug)]
pub struct PlatformPlan {
    /// For which platform.
    pub platform: Platform,
    /// The archive's file name.
    pub archive: String,
    /// Its format.
    pub format: Format,
    /// Everything in it, in the order in which it stands there: a folder before what is in it.
    pub members: Vec<Member>,
}

/// Finds what a pattern over the tree selects.
pub type FindInTree<'f> = &'f dyn Fn(&PatternList, &str) -> Result<Arc<Tree>, DistError>;

/// The variables that names may use: `platform`, `platform.KEY`.
pub fn name_vars(platform: &Platform, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut vars: BTreeMap<String, String> =
        own.iter().map(|(key, value)| (format!("platform.{key}"), value.clone())).collect();
    vars.insert("platform".to_owned(), platform.to_string());
    vars
}

/// What is known before the first archive is planned.
pub struct Known<'k> {
    /// The table.
    pub dist: &'k Dist,
    /// Commit and time.
    pub facts: &'k Facts,
    /// `${platform.KEY}` of each platform.
    pub vars: &'k dyn Fn(&Platform) -> BTreeMap<String, String>,
    /// The steps that were built.
    pub built: &'k BTreeMap<StepId, Built>,
    /// The project's folder.
    pub root: &'k Path,
    /// Finds files of the tree.
    pub find: FindInTree<'k>,
}

/// The archive for `platform`.
///
/// # Errors
/// See [`DistError`]: a rule that selects nothing, a path twice, a link that leads out, a name that is none.
pub fn plan(known: &Known<'_>, platform: &Platform) -> Result<PlatformPlan, DistError> {
    let Known { dist, facts, .. } = known;
    let mut vars = name_vars(platform, &(known.vars)(platform));
    vars.insert("name".to_owned(), dist.name.clone());
    vars.insert("commit".to_owned(), facts.short_commit());
    if let Some(version) = &facts.version {
        vars.insert("version".to_owned(), version.clone());
    }
    let empty = Body::default();
    let body = dist.bodies.get(platform).unwrap_or(&empty);
    let planner = Planner { known, platform, vars };
    let archive = planner.expand(&body.archive)?;
    check_name(&archive)?;
    let unfit = DistError::Name { name: archive.clone(), why: "its ending is no kind of archive" };
    let format = Format::of_name(&archive).ok_or(unfit)?;
    let mut members: BTreeMap<RelPath, Member> = BTreeMap::new();
    let root = planner.path(&body.root)?;
    for rule in &body.files {
        for member in planner.rule(rule, &root)? {
            put(&mut members, member, &archive)?;
        }
    }
    for folder in &body.folders {
        let path = root.join(&planner.path(folder)?);
        members.entry(path.clone()).or_insert(folder_at(path));
    }
    let members = with_parents(members);
    let members: Vec<Member> = members.into_values().collect();
    check_tree(&members, &archive)?;
    for member in &members {
        format.fits(member).map_err(|why| DistError::Unfit {
            archive: archive.clone(),
            path: member.path.clone(),
            why,
        })?;
    }
    Ok(PlatformPlan { platform: platform.clone(), archive, format, members })
}

struct Planner<'k, 'p> {
    known: &'p Known<'k>,
    platform: &'p Platform,
    vars: BTreeMap<String, String>,
}

impl Planner<'_, '_> {
    fn expand(&self, text: &str) -> Result<String, DistError> {
        text::expand(text, &self.vars).map_err(|unknown| DistError::Placeholder {
            text: text.to_owned(),
            name: unknown.into_iter().next().map(|one| one.name).unwrap_or_default(),
            platform: self.platform.to_string(),
        })
    }

    fn path(&self, text: &str) -> Result<RelPath, DistError> {
        let text = self.expand(text)?;
        let why = "it is no path inside the archive";
        RelPath::new(text.trim_start_matches('/')).map_err(|_| DistError::Name { name: text, why })
    }

    fn nothing(&self, rule: &FileRule) -> DistError {
        DistError::Nothing {
            dist: self.known.dist.name.clone(),
            from: rule.text.clone(),
            platform: self.platform.to_string(),
        }
    }

    fn rule(&self, rule: &FileRule, root: &RelPath) -> Result<Vec<Member>, DistError> {
        let to = root.join(&self.path(&rule.to)?);
        let is_folder = rule.to.ends_with('/') || rule.to == ".";
        let (tree, list, place, step) = match &rule.from {
            Pick::Tree(list) => {
                let tree = (self.known.find)(list, &rule.text)?;
                (tree, Some(list.clone()), self.known.root.to_owned(), None)
            }
            Pick::Step { step, pattern } => {
                let built = self.built(step)?;
                let list = match pattern {
                    None => None,
                    Some(pattern) => {
                        let pattern = self.expand(pattern)?;
                        let list = PatternList::parse(RelPath::root(), &[&pattern]);
                        Some(list.map_err(|_| self.nothing(rule))?)
                    }
                };
                (Arc::clone(&built.outputs), list, built.place.clone(), Some(built.id.clone()))
            }
        };
        let chosen = choose(&tree, list.as_ref());
        if chosen.is_empty() {
            return Err(self.nothing(rule));
        }
        let mut members = Vec::with_capacity(chosen.len());
        for Chosen { path, node, below } in chosen {
            let below = match below {
                Some(below) => to.join(&below),
                None if is_folder => {
                    to.join(&RelPath::new(path.file_name()).unwrap_or_else(|_| path.clone()))
                }
                None => to.clone(),
            };
            let origin = step.clone().map_or_else(|| Origin::Tree(path.clone()), Origin::Step);
            members.push(member(below, node, &place, path, origin, rule.mode));
        }
        Ok(members)
    }

    fn built(&self, step: &str) -> Result<&Built, DistError> {
        let own = StepId { step: step.to_owned(), platform: self.platform.clone() };
        let any = StepId { step: step.to_owned(), platform: Platform::Any };
        let found = self.known.built.get(&own).or_else(|| self.known.built.get(&any));
        found.ok_or(DistError::NotBuilt { step: own })
    }
}

/// An entry that a pattern selects.
struct Chosen<'t> {
    path: &'t RelPath,
    node: &'t Node,
    /// Its path below what the pattern names; `None` where the pattern names this very entry.
    below: Option<RelPath>,
}

fn choose<'t>(tree: &'t Tree, list: Option<&PatternList>) -> Vec<Chosen<'t>> {
    let Some(list) = list else {
        let all = tree.entries().iter();
        return all.map(|(path, node)| Chosen { path, node, below: Some(path.clone()) }).collect();
    };
    let Some(pattern) = list.patterns().first() else { return Vec::new() };
    let top = pattern.search_root(list.base());
    let mut chosen = Vec::new();
    for (path, node) in tree.entries() {
        if path.is_within(&top) && list.selects(path) {
            let exact = pattern.literal() == Some(path) && !matches!(node, Node::Folder);
            let below = if exact { None } else { path.strip_prefix(&top) };
            chosen.push(Chosen { path, node, below });
        }
    }
    chosen
}

fn member(
    to: RelPath,
    node: &Node,
    place: &Path,
    from: &RelPath,
    origin: Origin,
    mode: Option<u32>,
) -> Member {
    match node {
        Node::File { digest, size, executable } => Member {
            path: to,
            mode: mode.unwrap_or(if *executable { PROGRAM } else { PLAIN }),
            kind: Kind::File { digest: *digest, size: *size, at: from.under(place) },
            origin,
        },
        Node::Symlink { target } => {
            Member { path: to, mode: 0o777, kind: Kind::Symlink { target: target.clone() }, origin }
        }
        Node::Folder => Member { path: to, mode: PROGRAM, kind: Kind::Folder, origin },
    }
}

fn folder_at(path: RelPath) -> Member {
    Member { path, mode: PROGRAM, kind: Kind::Folder, origin: Origin::Made }
}

fn put(members: &mut BTreeMap<RelPath, Member>, member: Member, archive: &str) -> Result<(), DistError> {
    if member.path.is_root() {
        return if member.kind == Kind::Folder {
            Ok(())
        } else {
            Err(DistError::Name { name: ".".to_owned(), why: "a file needs a name in the archive" })
        };
    }
    match members.get(&member.path) {
        Some(there) if there.kind == Kind::Folder && member.kind == Kind::Folder => Ok(()),
        Some(_) => Err(DistError::Twice { path: member.path, archive: archive.to_owned() }),
        None => {
            members.insert(member.path.clone(), member);
            Ok(())
        }
    }
}

/// Every folder on the way is listed: an archive that lists them all unpacks to the same modes everywhere.
pub(crate) fn with_parents(mut members: BTreeMap<RelPath, Member>) -> BTreeMap<RelPath, Member> {
    let mut missing: BTreeMap<RelPath, Member> = BTreeMap::new();
    for path in members.keys() {
        let mut above = path.parent();
        while let Some(folder) = above.filter(|folder| !folder.is_root()) {
            if members.contains_key(&folder) || missing.contains_key(&folder) {
                break;
            }
            above = folder.parent();
            missing.insert(folder.clone(), folder_at(folder));
        }
    }
    members.append(&mut missing);
    members.remove(&RelPath::root());
    members
}

fn check_tree(members: &[Member], archive: &str) -> Result<(), DistError> {
    let entries = members.iter().map(|member| {
        let node = match &member.kind {
            Kind::File { digest, size, .. } => Node::File { digest: *digest, size: *size, executable: false },
            Kind::Symlink { target } => Node::Symlink { target: target.clone() },
            Kind::Folder => Node::Folder,
        };
        (member.path.clone(), node)
    });
    let tree = Tree::new(entries.collect()).map_err(|error| match error {
        TreeError::Twice { path } => DistError::Twice { path, archive: archive.to_owned() },
        other => DistError::NotATree { archive: archive.to_owned(), what: other.to_string() },
    })?;
    for member in members {
        if let Kind::Symlink { target } = &member.kind
            && spolia_store::tree::leaves_the_tree(&tree, &member.path, target)
        {
            return Err(DistError::LinksOut {
                path: member.path.clone(),
                target: escape(target),
                archive: archive.to_owned(),
            });
        }
    }
    Ok(())
}

/// The longest name of a file of a release, bytes: what file systems take, less room for endings.
pub const NAME_BYTES_MAX: usize = 200;

/// Whether `name` can be a file of a release: one that `md5sum -c` and every shell read as it is.
///
/// # Errors
/// [`DistError::Name`].
pub fn check_name(name: &str) -> Result<(), DistError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.contains('/') {
        "it has a `/`"
    } else if name.starts_with(['.', '-']) {
        "it begins with `.` or `-`"
    } else if name.len() > NAME_BYTES_MAX {
        "it is too long"
    } else if name.chars().any(|letter| letter.is_control() || letter == '\\') {
        "it has a character that lists of sums cannot hold"
    } else {
        return Ok(());
    };
    Err(DistError::Name { name: name.to_owned(), why })
}

impl PlatformPlan {
    /// The bytes of all files together.
    pub fn size_bytes(&self) -> u64 {
        self.members.iter().map(Member::size_bytes).sum()
    }

    /// Every step that gives a file.
    pub fn steps(&self) -> std::collections::BTreeSet<&StepId> {
        let steps = self.members.iter().filter_map(|member| match &member.origin {
            Origin::Step(id) => Some(id),
            _ => None,
        });
        steps.collect()
    }

    /// Hands what decides the archive's bytes to a key.
    pub fn write_key(&self, writer: &mut dyn KeyWriter) {
        let Self { platform, archive, format, members } = self;
        writer.open(archive);
        writer.field("platform", Value::Bytes(platform.to_string().as_bytes()));
        writer.field("format", Value::Bytes(format.ending().as_bytes()));
        for Member { path, mode, kind, origin } in members {
            writer.open("member");
            writer.field("path", Value::Bytes(path.as_bytes()));
            writer.field("mode", Value::Number(u64::from(*mode)));
            match kind {
                // Where its bytes lie is no part of what they are.
                Kind::File { digest, size: _, at: _ } => writer.field("file", Value::Digest(*digest)),
                Kind::Symlink { target } => writer.field("link", Value::Bytes(target)),
                Kind::Folder => writer.field("folder", Value::Flag(true)),
            }
            match origin {
                Origin::Step(id) => writer.field("step", Value::Bytes(id.to_string().as_bytes())),
                Origin::Tree(path) => writer.field("tree", Value::Bytes(path.as_bytes())),
                Origin::Made => writer.field("made", Value::Flag(true)),
            }
            writer.close();
        }
        writer.close();
    }
}

impl Member {
    /// Its bytes; none for what is no file.
    pub fn size_bytes(&self) -> u64 {
        match &self.kind {
            Kind::File { size, .. } => *size,
            _ => 0,
        }
    }
}
