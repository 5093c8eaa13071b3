//! Whole builds in memory: random graphs, a fake that runs nothing, and what must hold of every order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use spolia_build::manifest::{self, Manifest};
use spolia_build::schedule::{Schedule, State};
use spolia_build::{Graph, NodeId};
use spolia_core::{Platform, RelPath};
use spolia_testing::Random;

const SEEDS: u64 = 400;

struct Text(String);

impl manifest::Files for Text {
    fn read(&mut self, _: &RelPath) -> std::io::Result<String> {
        Ok(self.0.clone())
    }
}

/// Up to 40 steps on up to 3 platforms, each with needs among those before it, some in pools.
fn random_manifest(random: &mut Random) -> Manifest {
    let platforms = ["linux/amd64", "linux/arm64", "linux/386"];
    let mut text = format!("[project]\nplatforms = {:?}\n", &platforms[..1 + random.below(3) as usize]);
    let pools = random.below(3);
    if pools > 0 {
        text.push_str("[pools]\n");
        (0..pools).for_each(|pool| writeln!(text, "pool{pool} = {}", 1 + random.below(3)).unwrap());
    }
    let density = 1 + random.below(8);
    let mut any: Vec<bool> = Vec::new();
    for step in 0..1 + random.below(40) as usize {
        // A step for all platforms at once cannot need one that is built for each.
        let for_any = random.one_in(4);
        let needs: Vec<String> = (0..step)
            .filter(|need| (!for_any || any[*need]) && random.one_in(density))
            .map(|need| format!("s{need}"))
            .collect();
        any.push(for_any);
        writeln!(text, "[steps.s{step}]\nrun = \"true\"\noutputs = []\nneeds = {needs:?}").unwrap();
        if for_any {
            text.push_str("platforms = \"any\"\n");
        }
        if pools > 0 && random.one_in(2) {
            writeln!(text, "pool = \"pool{}\"", random.below(pools)).unwrap();
        }
    }
    let request = manifest::Request { variant: None, host: Platform::host() };
    match manifest::parse(&mut Text(text.clone()), "spolia.toml", &request) {
        Ok((manifest, _)) => manifest,
        Err(mistakes) => panic!("{text}\n{mistakes:?}"),
    }
}

/// All that needs one of `from`, by whatever way, among the selected.
fn above(graph: &Graph<'_>, selected: &BTreeSet<NodeId>, from: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    // In this order whatever is needed comes first.
    for id in selected {
        let needs = &graph.node(*id).needs;
        if needs.iter().any(|need| from.contains(need) || found.contains(need)) {
            found.insert(*id);
        }
    }
    found
}

/// A build of which nothing is real but the schedule.
struct Fake<'g> {
    graph: &'g Graph<'g>,
    pools: &'g BTreeMap<String, u32>,
    schedule: Schedule,
    running: Vec<NodeId>,
    began: BTreeSet<NodeId>,
    succeeded: BTreeSet<NodeId>,
    failed: BTreeSet<NodeId>,
    skipped: BTreeSet<NodeId>,
}

impl Fake<'_> {
    fn begin(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        assert!(self.began.insert(id), "{} began twice", node.id);
        assert!(node.needs.iter().all(|need| self.succeeded.contains(need)), "{} before its needs", node.id);
        self.schedule.begin(id);
        self.running.push(id);
        let mut used: BTreeMap<&str, u32> = BTreeMap::new();
        for id in &self.running {
            if let Some(pool) = &self.graph.node(*id).body.pool {
                *used.entry(pool).or_default() += 1;
            }
        }
        assert!(used.iter().all(|(pool, count)| *count <= self.pools[*pool]), "{used:?}");
        assert_eq!(self.schedule.running(), self.running.len());
    }

    fn skip(&mut self, ids: Vec<NodeId>) {
        for id in ids {
            assert!(!self.began.contains(&id), "{} was begun and skipped", self.graph.node(id).id);
            assert!(self.skipped.insert(id), "{} was skipped twice", self.graph.node(id).id);
        }
    }

    /// Ends one that runs; whether it failed.
    fn end(&mut self, random: &mut Random, fails_one_in: u64) -> bool {
        let id = self.running.swap_remove(random.below(self.running.len() as u64) as usize);
        if random.one_in(fails_one_in) {
            let skipped = self.schedule.fail(self.graph, id);
            self.skip(skipped);
            self.failed.insert(id);
            return true;
        }
        self.schedule.succeed(self.graph, id);
        self.succeeded.insert(id);
        false
    }
}

fn select(random: &mut Random, graph: &Graph<'_>) -> Vec<NodeId> {
    if random.one_in(2) {
        return graph.select(&[], &[]).unwrap();
    }
    let all: Vec<NodeId> = graph.ids().collect();
    let one = graph.node(all[random.below(all.len() as u64) as usize]);
    graph.select(std::slice::from_ref(&one.id.step), &[]).unwrap()
}

fn one_build(seed: u64, keep_going: bool) {
    let mut random = Random::new(seed);
    let manifest = random_manifest(&mut random);
    let graph = Graph::new(&manifest).unwrap();
    let selected = select(&mut random, &graph);
    let wanted: BTreeSet<NodeId> = selected.iter().copied().collect();
    assert!(selected.is_sorted(), "needed ones come first");
    let needed = |id: &NodeId| graph.node(*id).needs.iter().all(|need| wanted.contains(need));
    assert!(selected.iter().all(needed), "all that is needed is selected");
    let costs: Vec<u64> = (0..graph.len()).map(|_| random.below(1000)).collect();
    let jobs = 1 + random.below(6) as usize;
    let fails_one_in = [u64::MAX, 20, 3][random.below(3) as usize];
    let mut fake = Fake {
        graph: &graph,
        pools: &manifest.pools,
        schedule: Schedule::new(&graph, &selected, &|id| costs[id.0 as usize], &manifest.pools),
        running: Vec::new(),
        began: BTreeSet::new(),
        succeeded: BTreeSet::new(),
        failed: BTreeSet::new(),
        skipped: BTreeSet::new(),
    };
    let mut stopped = false;
    while !fake.schedule.is_done() {
        let next = fake.schedule.next_ready().filter(|_| !stopped && fake.running.len() < jobs);
        if let Some(id) = next.filter(|_| fake.running.is_empty() || !random.one_in(4)) {
            fake.begin(id);
            continue;
        }
        assert!(!fake.running.is_empty(), "seed {seed}: nothing runs, nothing can begin, and it is not done");
        let failed = fake.end(&mut random, fails_one_in);
        if failed && !keep_going && !stopped {
            stopped = true;
            let skipped = fake.schedule.stop();
            fake.skip(skipped);
        }
    }
    assert!(fake.running.is_empty() && fake.schedule.next_ready().is_none());
    let ended: Vec<_> =
        [&fake.succeeded, &fake.failed, &fake.skipped].into_iter().flatten().copied().collect();
    assert_eq!(ended.len(), wanted.len(), "each ends once");
    assert_eq!(ended.into_iter().collect::<BTreeSet<_>>(), wanted);
    let lost = above(&graph, &wanted, &fake.failed);
    assert!(lost.is_subset(&fake.skipped), "what needs a failed one does not run");
    if !stopped {
        assert_eq!(lost, fake.skipped, "and nothing else is skipped");
    }
    for id in graph.ids() {
        let expect = match id {
            id if fake.succeeded.contains(&id) => State::Succeeded,
            id if fake.failed.contains(&id) => State::Failed,
            id if fake.skipped.contains(&id) => State::Skipped,
            _ => State::Unwanted,
        };
        assert_eq!(fake.schedule.state(id), expect, "seed {seed}");
    }
}

#[test]
fn random_builds_that_keep_going() {
    (0..SEEDS).for_each(|seed| one_build(seed, true));
}

#[test]
fn random_builds_that_fail_fast() {
    (0..SEEDS).for_each(|seed| one_build(seed, false));
}

/// Of two that are ready, the one with the longer way to the end goes first.
#[test]
fn the_longest_way_goes_first() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let manifest = random_manifest(&mut random);
        let graph = Graph::new(&manifest).unwrap();
        let selected: Vec<NodeId> = graph.ids().collect();
        let costs: Vec<u64> = (0..graph.len()).map(|_| random.below(1000)).collect();
        let mut ways = vec![0; graph.len()];
        for id in selected.iter().rev() {
            let after = graph.node(*id).dependants.iter().map(|next| ways[next.0 as usize]).max();
            ways[id.0 as usize] = costs[id.0 as usize] + 1 + after.unwrap_or(0);
        }
        let pools = manifest.pools.keys().map(|name| (name.clone(), u32::MAX)).collect();
        let mut schedule = Schedule::new(&graph, &selected, &|id| costs[id.0 as usize], &pools);
        while let Some(id) = schedule.next_ready() {
            let ready = selected.iter().filter(|id| schedule.state(**id) == State::Ready);
            let longest = ready.map(|id| ways[id.0 as usize]).max();
            assert_eq!(Some(ways[id.0 as usize]), longest, "seed {seed}");
            schedule.begin(id);
            schedule.succeed(&graph, id);
        }
        assert!(schedule.is_done(), "seed {seed}");
    }
}
