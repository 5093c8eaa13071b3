//! `spolia dist`: `[dist.NAME]` → steps built → plan → files of a release. Joins the rooms; packs nothing itself.

mod check;
mod gather;
mod second;
mod show;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use spolia_core::diagnostic::{Severity, nearest};
use spolia_core::event::StepId;
use spolia_core::key::Keyed;
use spolia_core::{Cost, Node, Platform, RelPath, Tree};
use spolia_dist::facts::{self, Asker, Facts};
use spolia_dist::manifest::{self, Context, SourcesConf};
use spolia_dist::pack::Packing;
use spolia_dist::plan::{self, Known};
use spolia_dist::release::{self, Found, Made, Stage};
use spolia_dist::signature;
use spolia_dist::sources::{Item, Search};
use spolia_dist::{Built, Dist, DistError, PlatformPlan, Release};
use spolia_engine::Cancel;
use spolia_store::{DigestCache, LocalStore};

use self::gather::TreeFiles;
use super::build::{cancel_on_signals, digest_cache};
use crate::cli::DistArgs;
use crate::exit::{Exit, Failure};
use crate::project::{self, Project, open_store};
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// Runs it.
pub(crate) fn run(args: &DistArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    if let Some(path) = &args.check {
        return check::run(path, args.public_key.as_deref(), settings, shell);
    }
    if let Some(path) = &args.second {
        // A user namespace takes a process of one thread: before anything else.
        second::settle(path)?;
    }
    let (project, all) = load(args, settings, shell)?;
    let chosen = choose(&all, args)?;
    let store = open_store(settings)?;
    let digests = digest_cache(&store, &project.root);
    let work = Work {
        args,
        settings,
        shell,
        project: &project,
        store,
        digests: &digests,
        outcomes: Mutex::default(),
    };
    if args.dry_run {
        return show::dry_run(&work, &all, &chosen);
    }
    // Before anything is built: a tree that may not be packed need not be built for it.
    let asked = work.facts_of(&all, &chosen, &work.cancel_never()?)?;
    let (exit, built) = gather::build(&work, &chosen)?;
    if exit != Exit::Success {
        return Ok(exit);
    }
    let key = args.sign_key.as_ref().map(|path| signing_key(path, settings)).transpose()?;
    let cancel = cancel_on_signals()?;
    let files = TreeFiles::new(&work, &all, &chosen)?;
    let mut exit = exit;
    for (one, facts) in chosen.iter().zip(asked) {
        let (plans, names) = match work.release(one, &facts, &built, &files, &cancel) {
            Ok(made) => made,
            Err(error) => {
                // What was hashed stays known, whatever became of it.
                let _unwritten = digests.save();
                return Err(failure(&error));
            }
        };
        if let Some(key) = &key {
            let signed =
                signature::sign(&work.out(one), key, facts.epoch).map_err(|error| failure(&error))?;
            let what = work.out(one).join(signature::SIGNATURE);
            status(shell, if signed { "Signed" } else { "Fresh" }, &what.display().to_string());
        }
        if let Some(how) = args.verify {
            let outputs = built.values().flat_map(|built| built.outputs.entries());
            let output_bytes = outputs.map(|(_, node)| size_of(node)).sum();
            let first = verify::First { one, facts: &facts, plans, names, output_bytes };
            let found = verify::verify(&work, &all, &first, how, &cancel)?;
            exit = if found == Exit::Success { exit } else { found };
        }
    }
    let _unwritten = digests.save();
    Ok(exit)
}

fn signing_key(path: &Path, settings: &Settings) -> Result<signature::SecretKey, Failure> {
    let password = settings.var("SPOLIA_SIGN_PASSWORD").map(|text| text.to_string_lossy().into_owned());
    signature::secret_key(&settings.cwd.join(path), password).map_err(|error| failure(&error))
}

/// A table that is packed, for these platforms.
pub(crate) struct Chosen<'d> {
    pub(crate) dist: &'d Dist,
    pub(crate) platforms: Vec<Platform>,
    /// Where its files go, absolute.
    pub(crate) out: PathBuf,
}

/// Reads the manifest, and the tables of it that are this command's; all mistakes at once.
fn load(args: &DistArgs, settings: &Settings, shell: &Shell) -> Result<(Project, Vec<Dist>), Failure> {
    let (root, name) = project::find(settings)?;
    let text = std::fs::read_to_string(root.join(&name)).unwrap_or_default();
    let file = RelPath::new(&name).unwrap_or_else(|_| RelPath::root());
    let found = Project::inspect(root, &name, args.how.variant.as_deref());
    let manifest = found.as_ref().ok().map(|(project, _)| &project.manifest);
    let context = Context { manifest, host: Platform::host() };
    match (manifest::parse(file, &text, &context), found) {
        (Ok(dists), Ok((project, warnings))) => {
            if !shell.is_quiet() {
                shell.diagnostics(&warnings);
            }
            Ok((project, dists))
        }
        (Err(more), Ok((_, mut diagnostics))) => {
            diagnostics.extend(more);
            Err(mistakes(diagnostics))
        }
        (Ok(_), Err(failure)) => Err(failure),
        (Err(more), Err(mut failure)) => {
            failure.diagnostics.extend(more);
            Err(failure)
        }
    }
}

fn mistakes(mut diagnostics: Vec<spolia_core::Diagnostic>) -> Failure {
    diagnostics.sort_by_key(|one| one.severity == Severity::Error);
    Failure { exit: Exit::Usage, message: String::new(), hints: Vec::new(), diagnostics }
}

fn choose<'d>(all: &'d [Dist], args: &DistArgs) -> Result<Vec<Chosen<'d>>, Failure> {
    if all.is_empty() {
        return Err(Failure::usage("the manifest has no `[dist.NAME]`, so there is nothing to pack")
            .hint("`[dist.NAME]` with `archive` and `files` says what to pack"));
    }
    let mut chosen = Vec::new();
    for name in &args.names {
        if !all.iter().any(|dist| dist.name == *name) {
            let failure = Failure::usage(format!("there is no `[dist.{name}]`"));
            let names = || all.iter().map(|dist| dist.name.as_str());
            return Err(match nearest(name, names()) {
                Some(near) => failure.hint(format!("did you mean `{near}`?")),
                None => failure.hint(format!("there is {}", names().collect::<Vec<_>>().join(", "))),
            });
        }
    }
    let wanted: Vec<&Dist> =
        all.iter().filter(|dist| args.names.is_empty() || args.names.contains(&dist.name)).collect();
    for dist in &wanted {
        let asked = &args.how.platform;
        let platforms: Vec<Platform> =
            dist.platforms.iter().filter(|one| asked.is_empty() || asked.contains(one)).cloned().collect();
        if let Some(missing) = asked.iter().find(|one| !dist.platforms.contains(one)) {
            let known: Vec<String> = dist.platforms.iter().map(ToString::to_string).collect();
            return Err(Failure::usage(format!("`[dist.{}]` is not packed for {missing}", dist.name))
                .hint(format!("it is packed for {}", known.join(", "))));
        }
        let out = match (&args.output, wanted.len()) {
            (Some(out), 1) => out.clone(),
            (Some(out), _) => out.join(&dist.name),
            (None, _) => PathBuf::new(),
        };
        chosen.push(Chosen { dist, platforms, out });
    }
    Ok(chosen)
}

/// What every part of the command needs.
pub(crate) struct Work<'w> {
    pub(crate) args: &'w DistArgs,
    pub(crate) settings: &'w Settings,
    pub(crate) shell: &'w Shell,
    pub(crate) project: &'w Project,
    pub(crate) store: Arc<LocalStore>,
    pub(crate) digests: &'w DigestCache,
    /// How each step came to be built, for the record of this run.
    pub(crate) outcomes: Mutex<Vec<serde_json::Value>>,
}

impl Work<'_> {
    pub(crate) fn root(&self) -> &Path {
        &self.project.root
    }

    pub(crate) fn cancel_never(&self) -> Result<Cancel, Failure> {
        Cancel::new().map_err(|error| Failure::environment(format!("cannot watch for signals: {error}")))
    }

    /// Where the files of a release go.
    pub(crate) fn out(&self, one: &Chosen<'_>) -> PathBuf {
        if one.out.as_os_str().is_empty() {
            one.dist.to.under(self.root())
        } else {
            self.settings.cwd.join(&one.out)
        }
    }

    /// What is true of each release.
    pub(crate) fn facts_of(
        &self,
        all: &[Dist],
        chosen: &[Chosen<'_>],
        cancel: &Cancel,
    ) -> Result<Vec<Facts>, Failure> {
        if let Some(path) = &self.args.second {
            return Ok(vec![second::orders(path)?.facts; chosen.len()]);
        }
        let env = BTreeMap::new();
        let asker = Asker { search: &self.settings.search, home: &self.settings.home, env: &env, cancel };
        let epoch = self.settings.var("SOURCE_DATE_EPOCH");
        let epoch = epoch.as_ref().map(|text| text.to_string_lossy());
        let mut outputs = self.own_folders(all);
        outputs.extend(chosen.iter().filter_map(|one| self.below_root(&self.out(one))));
        let mut gathered = Vec::new();
        for one in chosen {
            let facts =
                facts::gather(self.root(), one.dist.version.as_ref(), epoch.as_deref(), &outputs, &asker)
                    .map_err(|error| failure(&error))?;
            if let Some(paths) =
                facts.dirty.clone().filter(|paths| !paths.is_empty() && !self.args.allow_dirty)
            {
                return Err(failure(&DistError::Dirty { paths }));
            }
            gathered.push(facts);
        }
        Ok(gathered)
    }

    /// Folders that this program writes: what is new there is nobody's change.
    pub(crate) fn own_folders(&self, all: &[Dist]) -> Vec<RelPath> {
        let mut folders: Vec<RelPath> = all.iter().map(|dist| dist.to.clone()).collect();
        folders.extend(gather::published(&self.project.manifest));
        folders
    }

    fn below_root(&self, path: &Path) -> Option<RelPath> {
        use std::os::unix::ffi::OsStrExt as _;
        let below = path.strip_prefix(self.root()).ok()?;
        RelPath::new(below.as_os_str().as_bytes()).ok().filter(|path| !path.is_root())
    }

    /// The archives of a release.
    pub(crate) fn plans(
        &self,
        one: &Chosen<'_>,
        facts: &Facts,
        built: &BTreeMap<StepId, Built>,
        files: &TreeFiles<'_>,
    ) -> Result<Vec<PlatformPlan>, DistError> {
        let known = Known {
            dist: one.dist,
            facts,
            vars: &|platform| self.project.manifest.vars(platform, &Platform::host()),
            built,
            root: self.root(),
            find: &|list, text| files.find(one.dist, list, text),
        };
        one.platforms.iter().map(|platform| plan::plan(&known, platform)).collect()
    }

    /// The third-party sources of a release, where something in it tells of them.
    fn sources_of(&self, release: &Release<'_>, cancel: &Cancel) -> Result<Vec<Item>, DistError> {
        let dist = release.dist;
        if dist.sources.is_none() && dist.sboms.is_empty() && !dist.provenance {
            return Ok(Vec::new());
        }
        let mut env = self.settings.toolchain_env();
        for name in ["GOPATH", "GOMODCACHE"] {
            env.extend(self.settings.var(name).map(|value| (name.to_owned(), value)));
        }
        let asker = Asker { search: &self.settings.search, home: &self.settings.home, env: &env, cancel };
        let none = SourcesConf::default();
        let conf = dist.sources.as_ref().unwrap_or(&none);
        Search { conf, root: self.root(), asker: &asker }.collect(&release.steps(), release.plans)
    }

    fn release(
        &self,
        one: &Chosen<'_>,
        facts: &Facts,
        built: &BTreeMap<StepId, Built>,
        files: &TreeFiles<'_>,
        cancel: &Cancel,
    ) -> Result<(Vec<PlatformPlan>, Vec<String>), DistError> {
        let plans = self.plans(one, facts, built, files)?;
        let mut release = Release {
            dist: one.dist,
            facts,
            plans: &plans,
            built,
            spolia: env!("CARGO_PKG_VERSION"),
            sources: &[],
        };
        let sources = self.sources_of(&release, cancel)?;
        release.sources = &sources;
        let names = release.names()?;
        let out = self.out(one);
        if !self.args.no_cache && self.args.second.is_none() {
            match release::look_up(release.key(), &self.store, &out, &names, self.digests) {
                Found::InPlace(tree) => {
                    show::done(self.shell, &release, &made_of(&tree), &out, show::How::Fresh);
                    return Ok((plans, names));
                }
                Found::Restored(tree) => {
                    show::write_run(&out, self, &release, now_us(), None, "restored")?;
                    show::done(self.shell, &release, &made_of(&tree), &out, show::How::Restored);
                    return Ok((plans, names));
                }
                Found::Nothing => {}
            }
        }
        let began = instant();
        let began_us = now_us();
        let stage = Stage::new(&out)?;
        let total = plans.iter().map(PlatformPlan::size_bytes).sum();
        let progress = show::Progress::new(self.settings, self.shell, &one.dist.name, total);
        let on_bytes = |bytes| progress.add(bytes);
        let threads = self.args.how.jobs.map_or_else(|| self.settings.processors(), usize::from);
        let how = Packing { threads, cancel, on_bytes: &on_bytes };
        let made = release.make(stage.path(), &how);
        progress.close();
        let made = made?;
        if cancel.is_cancelled() {
            return Err(DistError::Cancelled);
        }
        let wall_us = u64::try_from(began.elapsed().as_micros()).ok();
        show::write_run(stage.path(), self, &release, began_us, wall_us, "packed")?;
        let mut published = names.clone();
        published.insert(0, spolia_dist::record::RUN.to_owned());
        stage.publish(&out, &published)?;
        let cost = Cost { wall_us, ..Cost::default() };
        if self.args.second.is_none()
            && let Err(why) = release::keep(&release, &self.store, &out, &names, cost, now_us(), self.digests)
        {
            self.shell.warning(&format!("the release could not be stored: {why}"), &[]);
        }
        show::done(self.shell, &release, &made, &out, show::How::Packed { wall_us });
        Ok((plans, names))
    }
}

/// How many bytes an entry has.
pub(crate) fn size_of(node: &Node) -> u64 {
    if let Node::File { size, .. } = node { *size } else { 0 }
}

/// The files of a release that was not made now.
fn made_of(tree: &Tree) -> Vec<Made> {
    let files = tree.entries().iter().filter_map(|(path, node)| match node {
        Node::File { digest, size, .. } => Some((path, digest, size)),
        _ => None,
    });
    files
        .map(|(path, digest, size)| Made {
            name: String::from_utf8_lossy(path.as_bytes()).into_owned(),
            size: *size,
            digest: *digest,
        })
        .collect()
}

/// What an error of packing means for the user.
pub(crate) fn failure(error: &DistError) -> Failure {
    let exit = match error {
        DistError::Cancelled => Exit::Interrupted,
        DistError::Io { .. } | DistError::Asked { .. } | DistError::Signature { .. } => Exit::Environment,
        DistError::Changed { .. }
        | DistError::Machine { .. }
        | DistError::SourceGone { .. }
        | DistError::Undeclared { .. }
        | DistError::TwoSources { .. } => Exit::StepFailed,
        _ => Exit::Usage,
    };
    let failure = Failure::from_error(exit, error);
    error.hints().into_iter().fold(failure, Failure::hint)
}

#[expect(clippy::disallowed_methods, reason = "the edge: packing is measured from here")]
fn instant() -> Instant {
    Instant::now()
}

/// Says in one word what happened, right-aligned.
pub(crate) fn status(shell: &Shell, verb: &str, what: &str) {
    shell.status(Tone::Good, verb, what);
}
