//! `"tools${platform.suffix}.tgz" + variables → text`. Pure. Every `${…}` is Spolia's here: no shell sees it.

use std::collections::BTreeMap;
use std::ops::Range;

/// What a `${…}` that cannot be replaced is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What is between the braces; what follows `${` where there is no closing one.
    pub name: String,
    /// Its bytes in the text, with the braces.
    pub range: Range<usize>,
    /// Whether the closing brace is missing.
    pub unclosed: bool,
}

/// Replaces every `${NAME}` of `text` by its value in `vars`.
///
/// # Errors
/// Every placeholder that has no value, or no end.
pub fn expand(text: &str, vars: &BTreeMap<String, String>) -> Result<String, Vec<Unknown>> {
    let mut expanded = String::with_capacity(text.len());
    let mut unknown = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${") {
        let open = at + found;
        expanded.push_str(&text[at..open]);
        let Some(length) = text[open..].find('}') else {
            let name = text[open + 2..].to_owned();
            unknown.push(Unknown { name, range: open..text.len(), unclosed: true });
            at = text.len();
            break;
        };
        let name = &text[open + 2..open + length];
        at = open + length + 1;
        match vars.get(name) {
            Some(value) => expanded.push_str(value),
            None => unknown.push(Unknown { name: name.to_owned(), range: open..at, unclosed: false }),
        }
    }
    expanded.push_str(&text[at..]);
    if unknown.is_empty() { Ok(expanded) } else { Err(unknown) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_it_knows_and_names_the_rest() {
        let vars = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b.c".to_owned(), "${a}".to_owned())]);
        for (text, expect) in [("", ""), ("x", "x"), ("${a}-${b.c}.tgz", "1-${a}.tgz"), ("$a $${a}", "$a $1")]
        {
            assert_eq!(expand(text, &vars).unwrap(), expect, "{text}");
        }
        let unknown = expand("${x}/${a}/${", &vars).unwrap_err();
        assert_eq!(unknown.len(), 2);
        assert_eq!(
            (unknown[0].name.as_str(), unknown[0].range.clone(), unknown[0].unclosed),
            ("x", 0..4, false)
        );
        assert!(unknown[1].unclosed);
    }
}
