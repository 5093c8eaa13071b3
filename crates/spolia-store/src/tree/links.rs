//! Whether a symlink of a tree leads out of it. Pure: looks at the tree, not at the disk.

use spolia_core::{Node, RelPath, Tree};

/// As many links as the kernel follows in one path (`path_resolution(7)`).
const LINKS_MAX: usize = 40;

/// Whether the symlink at `path` with this `target` can lead out of the tree's root: an absolute target,
/// or a `..` that passes the root once the links on the way are followed. A link to what is not in the
/// tree, or round in a circle, stays inside.
pub fn leaves_the_tree(tree: &Tree, path: &RelPath, target: &[u8]) -> bool {
    if target.first() == Some(&b'/') {
        return true;
    }
    let mut here = path.parent().unwrap_or_else(RelPath::root);
    // Segments still to walk, the next one last.
    let mut ahead: Vec<&[u8]> = target.rsplit(|byte| *byte == b'/').collect();
    let mut followed = 0;
    while let Some(segment) = ahead.pop() {
        match segment {
            b"" | b"." => {}
            b".." => match here.parent() {
                Some(above) => here = above,
                None => return true,
            },
            name => {
                let Ok(next) = here.child(name) else { return true };
                match tree.get(&next) {
                    Some(Node::Symlink { target }) => {
                        followed += 1;
                        if target.first() == Some(&b'/') {
                            return true;
                        }
                        if followed > LINKS_MAX {
                            return false;
                        }
                        ahead.extend(target.rsplit(|byte| *byte == b'/'));
                    }
                    _ => here = next,
                }
            }
        }
    }
    false
}

/// The first symlink of the tree that leads out of it.
pub(crate) fn first_out(tree: &Tree) -> Option<(&RelPath, &[u8])> {
    tree.entries().iter().find_map(|(path, node)| match node {
        Node::Symlink { target } if leaves_the_tree(tree, path, target) => Some((path, target.as_slice())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(links: &[(&str, &str)]) -> Tree {
        let entry = |(path, target): &(&str, &str)| {
            (RelPath::new(path).unwrap(), Node::Symlink { target: target.as_bytes().to_vec() })
        };
        Tree::new(links.iter().map(entry).collect()).unwrap()
    }

    #[test]
    fn links_that_stay_and_links_that_leave() {
        let check = |links: &[(&str, &str)], out: Option<&str>| {
            let tree = tree(links);
            let found = first_out(&tree).map(|(path, _)| path.to_string());
            assert_eq!(found.as_deref(), out, "{links:?}");
        };
        check(&[("lib/a.so", "a.so.1")], None);
        check(&[("lib/a.so", "../lib64/a.so")], None);
        check(&[("a", "/etc/passwd")], Some("a"));
        check(&[("a", "..")], Some("a"));
        check(&[("a/b", "..")], None);
        check(&[("a/b", "../..")], Some("a/b"));
        check(&[("a/b", "x/../../..")], Some("a/b"));
        // Each stays inside as it is written, together they leave.
        check(&[("p/q/d", "../.."), ("l", "p/q/d/../x")], Some("l"));
        check(&[("a", "b"), ("b", "a")], None);
        check(&[("a", "")], None);
    }
}
