//! One target directory after the other: who builds in it, what is live, what is there: `paths → Vec<Surveyed>`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cargo::{Asked, Asker, Workspace};
use crate::command::CargoCommand;
use crate::detect;
use crate::error::SweepError;
use crate::find::{self, FindOptions};
use crate::live::{Configuration, Live, Named, Origin};
use crate::scan::{self, Scan};

/// What is to be looked at, and by which configurations.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Where.
    pub paths: Vec<PathBuf>,
    /// How.
    pub find: FindOptions,
    /// The configurations that count; where there are none, they are detected.
    pub declared: Vec<CargoCommand>,
    /// Builds in the journal: the folder, the command, and when, µs since 1970.
    pub journal: Vec<(PathBuf, CargoCommand, u64)>,
    /// Threads; at least one.
    pub threads: usize,
    /// Keep what is live in the scan.
    pub keep_live: bool,
    /// Add up what stays as well.
    pub sizes: bool,
    /// Look at what Cargo noted of everything that may go: where every byte or the time of every unit is asked for.
    pub notes: bool,
    /// Read the fingerprint of everything that may go: where every reason or every compiler is asked for.
    pub details: bool,
    /// All of it is to go, so what is live need not be known.
    pub everything: bool,
}

/// What is said while it goes on.
#[derive(Clone, Debug)]
pub enum Progress<'p> {
    /// Cargo is asked.
    Asking(&'p CargoCommand),
    /// Entries that were seen in a target directory by one thread.
    Scanning(&'p Path, u64),
}

/// A target directory.
#[derive(Debug)]
pub struct Surveyed {
    /// Where.
    pub target: PathBuf,
    /// Who builds in it.
    pub workspaces: Vec<Workspace>,
    /// What is live.
    pub live: Live,
    /// Profile folders of which Cargo could not say what is live, and why: they are left alone.
    pub unknown: BTreeMap<String, String>,
    /// What is there; `None` where nothing is known of it, and why.
    pub scan: Result<Arc<Scan>, String>,
    /// Packages of the lock file, as Cargo numbers them.
    pub packages: BTreeSet<u64>,
    /// What each question cost.
    pub asked: Vec<(CargoCommand, Asked)>,
    /// Commands that Cargo refused, and why. Never one that is declared.
    pub refused: Vec<(CargoCommand, String)>,
    /// Wall time of the walk.
    pub scanned_in: Duration,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Survey {
    /// The target directories.
    pub targets: Vec<Surveyed>,
    /// What could not be looked at, and why.
    pub problems: Vec<(PathBuf, String)>,
}

type Report<'r> = &'r (dyn Fn(Progress<'_>) -> bool + Sync);

/// Looks at everything that `request` names. `report` answers whether to go on.
///
/// # Errors
/// It was stopped, or Cargo cannot be started.
pub fn survey(request: &Request, asker: &Asker<'_>, report: Report<'_>) -> Result<Survey, SweepError> {
    let mut survey = Survey::default();
    let mut found = find::find(&request.paths, request.find);
    survey.problems.append(&mut found.unreadable);
    let mut known = Workspaces { asker, all: Vec::new(), broken: BTreeMap::new() };
    for project in &found.projects {
        known.of(project)?;
    }
    let mut targets: BTreeSet<PathBuf> = found.targets.into_iter().collect();
    for path in &request.paths {
        // As Cargo does: the nearest manifest above.
        let Ok(path) = path.canonicalize() else { continue };
        if found.projects.is_empty()
            && !request.find.recursive
            && !targets.iter().any(|t| t.starts_with(&path))
        {
            known.nearest(&path)?;
        }
    }
    for workspace in &known.all {
        for folder in [&workspace.target_dir, &workspace.build_dir] {
            if let Ok(folder) = folder.canonicalize()
                && (targets.contains(&folder) || find::is_target(&folder))
            {
                targets.insert(folder);
            }
        }
    }
    for target in targets {
        let users = known.users(&target)?;
        survey.targets.push(look(target, users, request, asker, report)?);
    }
    survey.problems.extend(known.broken);
    Ok(survey)
}

/// The workspaces that are known, each once.
struct Workspaces<'a> {
    asker: &'a Asker<'a>,
    all: Vec<Workspace>,
    broken: BTreeMap<PathBuf, String>,
}

impl Workspaces<'_> {
    /// The workspace of the manifest in `folder`.
    fn of(&mut self, folder: &Path) -> Result<Option<usize>, SweepError> {
        let has = |workspace: &Workspace| {
            workspace.root == folder || workspace.members.iter().any(|member| member.folder == folder)
        };
        if let Some(at) = self.all.iter().position(has) {
            return Ok(Some(at));
        }
        if self.broken.contains_key(folder) {
            return Ok(None);
        }
        match self.asker.workspace(folder) {
            Ok(workspace) => {
                if let Some(at) = self.all.iter().position(|known| known.root == workspace.root) {
                    return Ok(Some(at));
                }
                self.all.push(workspace);
                Ok(Some(self.all.len() - 1))
            }
            Err(error @ (SweepError::Stopped | SweepError::Start { .. })) => Err(error),
            Err(error) => {
                self.broken.insert(folder.to_owned(), error.to_string());
                Ok(None)
            }
        }
    }

    fn nearest(&mut self, folder: &Path) -> Result<Option<usize>, SweepError> {
        match folder.ancestors().find(|above| above.join("Cargo.toml").is_file()) {
            Some(project) => self.of(project),
            None => Ok(None),
        }
    }

    /// Who builds in a target directory: whose configuration names it, whose folder it lies in, and whose
    /// sources the finished programs in it were made from.
    fn users(&mut self, target: &Path) -> Result<Vec<Workspace>, SweepError> {
        let mut users = BTreeSet::new();
        users.extend(target.parent().map(|above| self.nearest(above)).transpose()?.flatten());
        for source in sources(target) {
            if let Some(folder) = source.parent().filter(|folder| folder.is_dir()) {
                users.extend(self.nearest(folder)?);
            }
        }
        for (at, workspace) in self.all.iter().enumerate() {
            let is = |folder: &Path| folder.canonicalize().is_ok_and(|folder| folder == target);
            if is(&workspace.target_dir) || is(&workspace.build_dir) {
                users.insert(at);
            }
        }
        Ok(users.into_iter().map(|at| self.all[at].clone()).collect())
    }
}

/// The first source of everything that Cargo put in place for people, by the dependency files beside it.
fn sources(target: &Path) -> BTreeSet<PathBuf> {
    use std::io::Read;
    const BYTES_MAX: u64 = 64 << 10;
    let mut sources = BTreeSet::new();
    for profile in find::profiles(target).unwrap_or_default() {
        for entry in std::fs::read_dir(target.join(profile)).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|ending| ending != "d")
                || !entry.file_type().is_ok_and(|kind| kind.is_file())
            {
                continue;
            }
            let mut text = Vec::new();
            let read =
                std::fs::File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut text));
            if read.is_err() {
                continue;
            }
            let text = String::from_utf8_lossy(&text);
            let Some((_, needs)) = text.lines().next().and_then(|line| line.split_once(": ")) else {
                continue;
            };
            // A space in a path is written `\ `.
            let needs = needs.replace("\\ ", "\0");
            sources.extend(needs.split(' ').map(|need| PathBuf::from(need.replace('\0', " "))));
        }
    }
    // One of each folder is enough.
    let mut folders = BTreeSet::new();
    sources.retain(|source| source.is_absolute() && folders.insert(source.parent().map(Path::to_owned)));
    sources
}

fn look(
    target: PathBuf,
    workspaces: Vec<Workspace>,
    request: &Request,
    asker: &Asker<'_>,
    report: Report<'_>,
) -> Result<Surveyed, SweepError> {
    let mut surveyed = Surveyed {
        live: Live::default(),
        unknown: BTreeMap::new(),
        scan: Err(String::new()),
        packages: BTreeSet::new(),
        asked: Vec::new(),
        refused: Vec::new(),
        scanned_in: Duration::ZERO,
        target,
        workspaces,
    };
    if surveyed.workspaces.is_empty() && !request.everything {
        surveyed.scan = Err("no project that builds in it was found".to_owned());
        return Ok(surveyed);
    }
    let profiles = find::profiles(&surveyed.target)
        .map_err(|error| crate::error::io("list", &surveyed.target, error))?;
    for workspace in surveyed.workspaces.clone() {
        // The sources of a dependency are named in the tree as well, and it need not be a project of its own.
        let is_dependency = surveyed.workspaces.iter().any(|user| user.outside.contains(&workspace.root));
        if let Err(why) = surveyed.ask(&workspace, &profiles, request, asker, report)?
            && !request.everything
            && !is_dependency
        {
            surveyed.scan = Err(why);
            return Ok(surveyed);
        }
    }
    #[expect(clippy::disallowed_methods, reason = "the walk is told apart from the questions")]
    let began = std::time::Instant::now();
    let &Request { threads, keep_live, sizes, notes, details, .. } = request;
    let options = scan::Options { threads, keep_live, sizes, notes, details };
    let progress = |seen: u64| report(Progress::Scanning(&surveyed.target, seen));
    let scan = scan::scan(&surveyed.target, &profiles, &surveyed.live, options, &progress)?;
    surveyed.scanned_in = began.elapsed();
    surveyed.scan = Ok(Arc::new(scan));
    Ok(surveyed)
}

/// What came of one question.
pub(crate) type Answer = Result<(Named, Asked), SweepError>;

/// Asks all of `commands`, a few at once; the answers in their order. What is remembered is no work for a thread.
pub(crate) fn ask_all(
    commands: &[CargoCommand],
    workspace: &Workspace,
    asker: &Asker<'_>,
    threads: usize,
    report: Report<'_>,
) -> Vec<Answer> {
    let remembered = |command| asker.remembered_names(workspace, command).map(Ok);
    let known: Vec<Option<Answer>> = commands.iter().map(remembered).collect();
    let open: Vec<usize> = (0..known.len()).filter(|at| known[*at].is_none()).collect();
    let next = AtomicUsize::new(0);
    let answers: Mutex<Vec<Option<Answer>>> = Mutex::new(known);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1).min(open.len()) {
            scope.spawn(|| {
                loop {
                    let Some(at) = open.get(next.fetch_add(1, Ordering::SeqCst)).copied() else { return };
                    let command = &commands[at];
                    let answer = match report(Progress::Asking(command)) {
                        true => asker.names(workspace, command),
                        false => Err(SweepError::Stopped),
                    };
                    answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[at] = Some(answer);
                }
            });
        }
    });
    let answers = answers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    answers.into_iter().map(|answer| answer.unwrap_or(Err(SweepError::Stopped))).collect()
}

impl Surveyed {
    /// Asks for every configuration of a workspace. The inner error: nothing may be removed, and why.
    fn ask(
        &mut self,
        workspace: &Workspace,
        profiles: &[String],
        request: &Request,
        asker: &Asker<'_>,
        report: Report<'_>,
    ) -> Result<Result<(), String>, SweepError> {
        let of_journal = request.journal.iter().filter(|(folder, _, _)| folder.starts_with(&workspace.root));
        let mut wanted: Vec<(CargoCommand, Origin)> = Vec::new();
        let mut want = |command: &CargoCommand, origin| {
            if !wanted.iter().any(|(known, _)| known == command) {
                wanted.push((command.clone(), origin));
            }
        };
        request.declared.iter().for_each(|command| want(command, Origin::Declared));
        of_journal.for_each(|(_, command, _)| want(command, Origin::Journal));
        if request.declared.is_empty() {
            for profile in profiles {
                detect::usual(workspace, profile).iter().for_each(|command| want(command, Origin::Usual));
            }
        }
        let commands: Vec<CargoCommand> = wanted.iter().map(|(command, _)| command.clone()).collect();
        let answers = ask_all(&commands, workspace, asker, request.threads, report);
        let mut first_refusal = None;
        let mut answered = 0;
        for ((command, origin), answer) in wanted.into_iter().zip(answers) {
            match answer {
                Ok((named, asked)) => {
                    answered += 1;
                    self.take(command, origin, &named, asked, request);
                }
                Err(error @ (SweepError::Stopped | SweepError::Start { .. })) => return Err(error),
                Err(error) if origin == Origin::Declared => return Ok(Err(error.to_string())),
                Err(error) => {
                    first_refusal.get_or_insert_with(|| error.to_string());
                    self.refused.push((command, error.to_string()));
                }
            }
        }
        if answered == 0 {
            return Ok(Err(
                first_refusal.unwrap_or_else(|| "there is no configuration to ask for".to_owned())
            ));
        }
        if request.declared.is_empty() {
            self.settle_refusals(workspace, profiles);
            detect::more(self, workspace, profiles, request, asker, report)?;
        }
        Ok(Ok(()))
    }

    /// A profile of which every usual question was refused is not known, unless Cargo has no such profile.
    fn settle_refusals(&mut self, workspace: &Workspace, profiles: &[String]) {
        for profile in profiles {
            let usual = detect::usual(workspace, profile);
            let of = |command: &CargoCommand| {
                self.refused.iter().find(|(refused, _)| refused == command).map(|(_, why)| why.clone())
            };
            let answers: Vec<Option<String>> = usual.iter().map(of).collect();
            if let Some(Some(why)) = answers.iter().find(|answer| answer.is_some())
                && answers.iter().all(Option::is_some)
                && !why.contains("is not defined")
            {
                self.unknown.insert(profile.clone(), why.clone());
            }
        }
    }

    /// Takes in an answer.
    pub(crate) fn take(
        &mut self,
        command: CargoCommand,
        origin: Origin,
        named: &Named,
        asked: Asked,
        request: &Request,
    ) {
        let uses = request.journal.iter().filter(|(_, known, _)| *known == command);
        let used_at_us = uses.map(|(_, _, at)| *at).max();
        self.asked.push((command.clone(), asked));
        self.packages.extend(&named.packages);
        self.live.add(Configuration { command, origin, used_at_us }, named);
    }
}
