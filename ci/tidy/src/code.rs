//! Rust text without comments and literals, so that a rule never trips over its own words in a string.
//!
//! A lexer of exactly what that needs: comments (nested), strings (raw, byte), characters against lifetimes.

use std::ops::Range;

/// One Rust file, lexed.
pub(crate) struct Code {
    /// The text with comments and the inside of literals blanked: same length, same lines, same offsets.
    pub(crate) bare: String,
    /// Where the inside of each string literal lies, in order.
    literals: Vec<Range<usize>>,
    /// Where test code lies.
    tests: Vec<Range<usize>>,
}

/// A named `pub` item.
pub(crate) struct Item<'a> {
    /// `fn`, `struct`, …
    pub(crate) keyword: &'a str,
    pub(crate) name: &'a str,
    pub(crate) offset: usize,
}

impl Code {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (bare, literals) = lex(text);
        let tests = if is_test_path(path) {
            std::iter::once(0..text.len()).collect()
        } else {
            test_modules(&bare)
        };
        Self { bare, literals, tests }
    }

    /// Whether `offset` lies in test code.
    pub(crate) fn is_test(&self, offset: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&offset))
    }

    /// Where test code lies.
    pub(crate) fn tests(&self) -> &[Range<usize>] {
        &self.tests
    }

    /// String literals that begin inside `range`.
    pub(crate) fn literals_in(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        self.literals.iter().filter(move |literal| range.contains(&literal.start)).cloned()
    }

    /// Where `needle` stands in code, not as a part of a longer word.
    pub(crate) fn find<'a>(&'a self, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
        find_word(&self.bare, needle)
    }

    /// The range inside the bracket that opens at `open`, up to its partner.
    pub(crate) fn inside(&self, open: usize) -> Range<usize> {
        open + 1..partner(self.bare.as_bytes(), open)
    }

    /// Items that are `pub`, also within the crate.
    pub(crate) fn pub_items(&self) -> Vec<Item<'_>> {
        let mut items = Vec::new();
        for offset in self.find("pub") {
            let mut rest = self.bare[offset + "pub".len()..].trim_start();
            if rest.starts_with('(') {
                rest = rest.split_once(')').map_or("", |(_, rest)| rest);
            }
            let mut words = rest.split(|c: char| !is_word(c)).filter(|word| !word.is_empty());
            let mut keyword = words.next();
            let mut next = words.next();
            while let (
                Some("const" | "async" | "unsafe" | "extern"),
                Some("fn" | "unsafe" | "async" | "extern"),
            ) = (keyword, next)
            {
                (keyword, next) = (next, words.next());
            }
            if let (
                Some(
                    keyword @ ("fn" | "struct" | "enum" | "trait" | "const" | "static" | "type"
                    | "mod"),
                ),
                Some(name),
            ) = (keyword, next)
            {
                items.push(Item { keyword, name, offset });
            }
        }
        items
    }
}

/// Offsets of `needle` in `text` where it is not a part of a longer word.
pub(crate) fn find_word<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(needle).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + needle.len()..].chars().next();
        let begins = !needle.starts_with(is_word) || !before.is_some_and(is_word);
        let ends = !needle.ends_with(is_word) || !after.is_some_and(is_word);
        begins && ends
    })
}

/// Whether `c` can be a part of an identifier.
pub(crate) fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Whole files that are test code: they are compiled only for tests.
fn is_test_path(path: &str) -> bool {
    path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.starts_with("crates/testkit/")
        || path.starts_with("ci/tidy/")
}

fn test_modules(bare: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (start, attribute) in bare.match_indices("#[cfg(test)]") {
        let rest = &bare[start + attribute.len()..];
        // `mod tests;` has its own file, which is known by its name.
        let Some(open) = rest.find(['{', ';']).filter(|at| rest[*at..].starts_with('{')) else {
            continue;
        };
        let end = partner(bare.as_bytes(), start + attribute.len() + open);
        ranges.push(start..end);
    }
    ranges
}

/// The offset of the bracket that closes the one at `open`, or the end.
fn partner(bare: &[u8], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in bare.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at;
        }
    }
    bare.len()
}

fn lex(text: &str) -> (String, Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let mut bare = bytes.to_vec();
    let mut literals = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let (inside, next) = if rest.starts_with("//") {
            let end = at + rest.find('\n').unwrap_or(rest.len());
            (at..end, end)
        } else if rest.starts_with("/*") {
            let end = at + block_comment_len(rest);
            (at..end, end)
        } else if let Some((open, hashes)) = raw_string(text, at) {
            let close = format!("\"{}", "#".repeat(hashes));
            let end = open + text[open..].find(&close).unwrap_or(text.len() - open);
            literals.push(open..end);
            (open..end, (end + close.len()).min(text.len()))
        } else if rest.starts_with('"') {
            let end = string_end(bytes, at + 1);
            literals.push(at + 1..end);
            (at + 1..end, (end + 1).min(text.len()))
        } else if let Some(len) = char_len(rest) {
            (at + 1..at + len - 1, at + len)
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        for byte in &mut bare[inside] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = next;
    }
    (String::from_utf8(bare).expect("whole literals and comments were blanked"), literals)
}

fn block_comment_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match &bytes[at..(at + 2).min(bytes.len())] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// For `r"`, `r#"`, `br"` and so on at `at`: where the inside begins, and how many hashes there are.
fn raw_string(text: &str, at: usize) -> Option<(usize, usize)> {
    let rest = text[at..].strip_prefix('r')?;
    let before = text[..at].trim_end_matches(['b', 'c']);
    if before.chars().next_back().is_some_and(is_word) {
        return None;
    }
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    rest[hashes..].starts_with('"').then_some((at + 1 + hashes + 1, hashes))
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// The length of the character literal at the start of `rest`, quotes included; `None` for a lifetime.
fn char_len(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        // The escaped character may itself be a quote.
        let escaped = inside[1..].chars().next()?.len_utf8();
        return inside[1 + escaped..].find('\'').map(|end| 1 + 1 + escaped + end + 1);
    }
    inside[first.len_utf8()..].starts_with('\'').then_some(1 + first.len_utf8() + 1)
}

#[cfg(test)]
mod tests {
    use super::Code;

    fn bare(text: &str) -> String {
        Code::new("a.rs", text).bare
    }

    #[test]
    fn comments_and_literals_are_blanked_in_place() {
        assert_eq!(bare("a // x\nb"), "a     \nb");
        assert_eq!(bare("a /* x /* y */ z */ b"), format!("a {} b", " ".repeat(17)));
        assert_eq!(bare(r#"f("a\"b", 'x', '\'', b"y")"#), r#"f("    ", ' ', '  ', b" ")"#);
        assert_eq!(bare("r#\"a\"b\"# br\"c\" r"), "r#\"   \"# br\" \" r");
        assert_eq!(bare("fn f<'a>(x: &'a str)"), "fn f<'a>(x: &'a str)");
        assert_eq!(bare("\"ä€\" x"), "\"     \" x");
    }

    #[test]
    fn literals_are_found_where_they_are() {
        let text = r#"f("one"); /* "no" */ g(r"two")"#;
        let code = Code::new("a.rs", text);
        let found: Vec<&str> = code.literals_in(0..text.len()).map(|it| &text[it]).collect();
        assert_eq!(found, ["one", "two"]);
    }

    #[test]
    fn test_modules_are_known() {
        let code = Code::new("a.rs", "fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\nfn c() {}");
        let is_test = |needle| code.is_test(code.bare.find(needle).expect("present"));
        assert!(!is_test("a()") && is_test("b()") && !is_test("c()"));
        assert!(Code::new("crates/x/src/tests.rs", "fn a() {}").is_test(0));
        assert!(!Code::new("a.rs", "#[cfg(test)]\nmod tests;\nfn a() {}").is_test(30));
    }

    #[test]
    fn pub_items_are_named() {
        let code = Code::new(
            "a.rs",
            "pub const fn a() {} pub(crate) struct B { pub c: u8 } pub use d::E; pub const F: u8 = 1; fn g() {}",
        );
        let found: Vec<_> = code.pub_items().iter().map(|it| (it.keyword, it.name)).collect();
        assert_eq!(found, [("fn", "a"), ("struct", "B"), ("const", "F")]);
    }
}
