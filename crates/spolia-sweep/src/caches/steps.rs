//! What is done to make caches smaller: `Vec<Cache> → Vec<Step> → Done`.

use std::path::PathBuf;
use std::time::Duration;

use super::unpacked::remove_unpacked;
use super::{Cache, Owner, Surroundings, look};
use crate::error::SweepError;

/// How long a tool may take to make its cache smaller.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// What is kept where a budget asks for room and nobody says what is old.
pub const OLDER_THAN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// One thing to do, to make one cache smaller.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Whose cache.
    pub owner: Owner,
    /// Bytes that it should free; the owner may free less.
    pub wanted_bytes: u64,
    /// The owner's commands, each only if those before it did not free as much; none where it is done here.
    pub commands: Vec<Vec<String>>,
    /// Variables for them.
    pub env: Vec<(String, String)>,
}

/// What to do so that all caches together hold no more than `budget`. Pure. With `older_than`, only what was not used
/// for so long, from owners that can tell; without a budget all of that.
pub fn plan(caches: &[Cache], budget: Option<u64>, older_than: Option<Duration>) -> Vec<Step> {
    let total: u64 = caches.iter().filter_map(|cache| cache.bytes).sum();
    let mut over = match (budget, older_than) {
        (Some(budget), _) => total.saturating_sub(budget),
        (None, Some(_)) => u64::MAX,
        (None, None) => 0,
    };
    let mut steps = Vec::new();
    for owner in Owner::ORDER {
        let found = caches.iter().find(|cache| cache.owner == owner && cache.shrinks);
        let Some(bytes) = found.and_then(|cache| cache.bytes).filter(|bytes| *bytes > 0) else { continue };
        if over == 0 {
            break;
        }
        let wanted = over.min(bytes);
        let Some((commands, env)) = way(owner, bytes - wanted, older_than) else { continue };
        over -= wanted;
        steps.push(Step { owner, wanted_bytes: wanted, commands, env });
    }
    steps
}

/// How an owner comes down to `kept` bytes; `None` where it cannot tell what is old and only that is to go.
type Way = (Vec<Vec<String>>, Vec<(String, String)>);

fn way(owner: Owner, kept: u64, older_than: Option<Duration>) -> Option<Way> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let age_s = older_than.unwrap_or(OLDER_THAN).as_secs();
    let hours = age_s.div_ceil(3600);
    let only_old = older_than.is_some();
    let mut env = Vec::new();
    let commands = match owner {
        Owner::Cargo | Owner::Spolia => Vec::new(),
        Owner::Pip if !only_old => vec![words("pip cache purge")],
        Owner::Npm if !only_old => vec![words("npm cache clean --force")],
        Owner::Go if !only_old => vec![words("go clean -cache")],
        Owner::Pip | Owner::Npm | Owner::Go | Owner::CargoDownloads | Owner::Sccache => return None,
        Owner::Ccache => {
            let mut commands = vec![words(&format!("ccache --evict-older-than {age_s}s"))];
            if !only_old {
                // 0 would mean no limit.
                env.push(("CCACHE_MAXSIZE".to_owned(), format!("{}k", (kept / 1000).max(1))));
                commands.push(words("ccache --cleanup"));
            }
            commands
        }
        Owner::Docker => {
            // With buildx `docker builder` is the builder that is chosen there, which need not be the daemon's, and it is the
            // daemon's cache that was measured.
            env.push(("DOCKER_BUILDKIT".to_owned(), "0".to_owned()));
            let limit = match only_old {
                true => format!("--filter until={hours}h"),
                false => format!("--keep-storage {kept}"),
            };
            vec![words(&format!("docker builder prune --force {limit}"))]
        }
        Owner::Podman => {
            let mut commands = vec![words(&format!("podman image prune --force --filter until={hours}h"))];
            if !only_old {
                commands.push(words("podman image prune --force"));
            }
            commands
        }
        Owner::Buildkit if only_old => vec![words(&format!("buildctl prune --keep-duration {hours}h"))],
        Owner::Buildkit => vec![words(&format!("buildctl prune --keep-storage {}", kept / 1_000_000))],
    };
    Some((commands, env))
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    /// Whose cache.
    pub owner: Owner,
    /// Bytes before and after, as measured; `None` where that was not possible.
    pub before_bytes: Option<u64>,
    /// After.
    pub after_bytes: Option<u64>,
    /// What went wrong.
    pub error: Option<String>,
    /// Why it holds more than it should; `None` where it does not, or nobody knows.
    pub why: Option<String>,
}

impl Done {
    /// What a step came to. Pure.
    pub fn new(
        step: &Step,
        before_bytes: Option<u64>,
        after_bytes: Option<u64>,
        error: Option<String>,
    ) -> Self {
        let aim = before_bytes.map(|before| before.saturating_sub(step.wanted_bytes));
        let above = aim.zip(after_bytes).is_some_and(|(aim, after)| after > aim);
        let why = above.then(|| match (&error, step.commands.last()) {
            (Some(error), _) => error.clone(),
            (None, Some(command)) => format!("that is what `{}` leaves", command.join(" ")),
            (None, None) => "the rest is in use, too young, or could not be had again".to_owned(),
        });
        Self { owner: step.owner, before_bytes, after_bytes, error, why }
    }
}

/// Does a step, but for Spolia's own.
///
/// # Errors
/// A tool failed, Cargo runs, or it was stopped.
pub fn carry_out(
    step: &Step,
    caches: &[Cache],
    older_than: Option<Duration>,
    around: &Surroundings<'_>,
    now_us: u64,
) -> Result<(), SweepError> {
    if step.owner == Owner::Cargo {
        let folders =
            caches.iter().filter(|cache| cache.owner == Owner::Cargo).flat_map(|cache| &cache.folders);
        let before_us =
            older_than.map(|age| now_us.saturating_sub(u64::try_from(age.as_micros()).unwrap_or(u64::MAX)));
        let folders: Vec<&PathBuf> = folders.collect();
        return remove_unpacked(&folders, step.wanted_bytes, before_us, around);
    }
    let env: Vec<(&str, String)> =
        step.env.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let before = caches.iter().find(|cache| cache.owner == step.owner).and_then(|cache| cache.bytes);
    for (number, command) in step.commands.iter().enumerate() {
        if number > 0 {
            let now = look(around, Some(step.owner))?;
            let now = now.first().map_or(Some(0), |cache| cache.bytes);
            let freed = before.zip(now).map(|(before, now)| before.saturating_sub(now));
            if freed.is_some_and(|freed| freed >= step.wanted_bytes) {
                break;
            }
        }
        around.run(command, &env, TIMEOUT)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(owner: Owner, bytes: u64) -> Cache {
        Cache { owner, folders: Vec::new(), bytes: Some(bytes), why: None, shrinks: true }
    }

    #[test]
    fn the_cheapest_goes_first_and_only_as_far_as_needed() {
        let caches = [
            cache(Owner::Spolia, 500),
            cache(Owner::Go, 300),
            cache(Owner::Cargo, 100),
            Cache { shrinks: false, ..cache(Owner::Sccache, 1000) },
        ];
        let check = |budget: u64, expect: &[(Owner, u64)]| {
            let steps = plan(&caches, Some(budget), None);
            let found: Vec<_> = steps.iter().map(|step| (step.owner, step.wanted_bytes)).collect();
            assert_eq!(found, expect, "{budget}");
        };
        check(1900, &[]);
        check(1850, &[(Owner::Cargo, 50)]);
        check(1700, &[(Owner::Cargo, 100), (Owner::Go, 100)]);
        check(0, &[(Owner::Cargo, 100), (Owner::Go, 300), (Owner::Spolia, 500)]);
        assert!(plan(&caches, None, None).is_empty());
    }

    #[test]
    fn an_age_is_passed_on_and_whoever_cannot_tell_it_is_left() {
        let caches = [cache(Owner::Docker, 10), cache(Owner::Ccache, 10), cache(Owner::Pip, 10)];
        let steps = plan(&caches, None, Some(Duration::from_secs(48 * 3600)));
        let lines: Vec<String> =
            steps.iter().flat_map(|step| &step.commands).map(|words| words.join(" ")).collect();
        assert_eq!(
            lines,
            ["docker builder prune --force --filter until=48h", "ccache --evict-older-than 172800s"]
        );
        // The daemon's own cache was measured, and not that of a builder chosen in buildx.
        assert_eq!(steps[0].env, [("DOCKER_BUILDKIT".to_owned(), "0".to_owned())]);
        let steps = plan(&[cache(Owner::Podman, 10)], Some(0), None);
        let lines: Vec<String> = steps[0].commands.iter().map(|words| words.join(" ")).collect();
        assert_eq!(
            lines,
            ["podman image prune --force --filter until=168h", "podman image prune --force"],
            "a budget is no age"
        );
        let steps = plan(&[cache(Owner::Podman, 10)], None, Some(Duration::from_secs(48 * 3600)));
        assert_eq!(steps[0].commands.len(), 1);
        let steps = plan(&[cache(Owner::Ccache, 5000)], Some(2000), None);
        assert_eq!(steps[0].env, [("CCACHE_MAXSIZE".to_owned(), "2k".to_owned())]);
    }

    #[test]
    fn whoever_holds_more_than_it_should_says_why() {
        let steps = plan(&[cache(Owner::Pip, 500)], Some(100), None);
        let check = |after, error: Option<&str>, expect: Option<&str>| {
            let done = Done::new(&steps[0], Some(500), after, error.map(str::to_owned));
            assert_eq!(done.why.as_deref(), expect);
        };
        check(Some(100), None, None);
        check(Some(101), None, Some("that is what `pip cache purge` leaves"));
        check(Some(500), Some("no"), Some("no"));
        check(None, None, None);
    }
}
