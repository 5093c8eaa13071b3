//! Many names that begin alike, in few bytes. Pure.
//!
//! ```text
//! names = (shared rest 0)*        shared = u8: so many bytes are those that the name before begins with, 255 at most
//! ```
//!
//! A name holds no zero; one that does is cut there.

/// Names after each other.
pub(crate) fn pack<'n>(names: impl Iterator<Item = &'n [u8]>) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut before: &[u8] = &[];
    for name in names {
        let alike = name.iter().zip(before).take(usize::from(u8::MAX)).take_while(|(now, then)| now == then);
        let shared = alike.count();
        packed.push(shared as u8);
        packed.extend(name[shared..].iter().take_while(|byte| **byte != 0));
        packed.push(0);
        before = name;
    }
    packed
}

/// What [`pack`] made of so many names; `None` where it is not that. Together they have at most `bytes_max` bytes.
pub(crate) fn unpack(packed: &[u8], count: usize, bytes_max: usize) -> Option<Vec<Vec<u8>>> {
    // Each takes two bytes at least.
    if count > packed.len() / 2 {
        return None;
    }
    let mut names: Vec<Vec<u8>> = Vec::with_capacity(count);
    let (mut rest, mut bytes) = (packed, 0usize);
    for _ in 0..count {
        let (shared, after) = rest.split_first()?;
        let end = memchr::memchr(0, after)?;
        let before = names.last().map(Vec::as_slice).unwrap_or_default();
        let begin = before.get(..usize::from(*shared))?;
        bytes = bytes.checked_add(begin.len() + end).filter(|bytes| *bytes <= bytes_max)?;
        names.push([begin, &after[..end]].concat());
        rest = &after[end + 1..];
    }
    rest.is_empty().then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back_as_they_were() {
        let long = "x".repeat(400);
        let longer = format!("{long}y");
        for names in [
            vec![],
            vec![""],
            vec!["~/a/b.h", "~/a/c.h", "~/a", "", "", "=/usr/include/x.h", "=/usr/include/x.h"],
            vec![long.as_str(), longer.as_str(), long.as_str()],
        ] {
            let names: Vec<&[u8]> = names.into_iter().map(str::as_bytes).collect();
            let packed = pack(names.iter().copied());
            assert_eq!(unpack(&packed, names.len(), 2000).unwrap(), names);
            assert_eq!(unpack(&packed, names.len() + 1, 2000), None);
            for cut in 0..packed.len() {
                assert_eq!(unpack(&packed[..cut], names.len(), 2000), None, "{cut}");
            }
        }
    }

    #[test]
    fn a_few_bytes_do_not_become_many() {
        let names = vec![vec![b'x'; 255]; 1000];
        let packed = pack(names.iter().map(Vec::as_slice));
        assert!(packed.len() < 3000);
        assert_eq!(unpack(&packed, 1000, 255_000).as_ref(), Some(&names));
        assert_eq!(unpack(&packed, 1000, 254_999), None);
        assert_eq!(unpack(&packed, usize::MAX, 255_000), None);
        // The first has none before it, and the second none so long.
        assert_eq!(unpack(&[1, 0], 1, 10), None);
        assert_eq!(unpack(&[0, b'a', 0, 2, 0], 2, 10), None);
    }
}
