//! The words of a statement, without its comments and what is quoted.

/// A part of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    Word(&'t str),
    /// A string, or a quoted name.
    Quoted,
    Mark(u8),
}

/// Reads a statement from its front. The text of a comment for servers (`/*! */`, `/*M! */`) is part of the statement: one
/// that the server does not run is an ordinary comment in its log.
#[derive(Clone, Debug)]
pub(super) struct Tokens<'t> {
    text: &'t str,
    at: usize,
    /// Whether it is in a comment for servers.
    is_inside: bool,
}

impl<'t> Tokens<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0, is_inside: false }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The next word in capitals, whatever marks stand before it; empty where something else comes.
    pub(super) fn word(&mut self) -> String {
        loop {
            match self.next() {
                Some(Token::Word(word)) => return word.to_ascii_uppercase(),
                Some(Token::Mark(_)) => {}
                Some(Token::Quoted) | None => return String::new(),
            }
        }
    }

    /// Reads through a word that stands outside of brackets; `None` where it is not sure that there is one.
    pub(super) fn through(&mut self, word: &str) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.next()? {
                Token::Word(found) if depth == 0 && found.eq_ignore_ascii_case(word) => return Some(()),
                Token::Mark(b'(') => depth += 1,
                Token::Mark(b')') => depth = depth.checked_sub(1)?,
                _ => {}
            }
        }
    }

    /// Reads through `end`, or all of it.
    fn skip(&mut self, end: &str) {
        self.at = self.rest().find(end).map_or(self.text.len(), |found| self.at + found + end.len());
    }

    /// Reads the opening of a comment for servers, and the version that stands behind it.
    fn enter(&mut self, opening: usize) {
        self.at += opening;
        self.at += self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.is_inside = true;
    }

    /// Reads what is quoted. Whether a backslash hides the quote behind it hangs on a mode of the session (as does what `"`
    /// means): where there is one, nothing behind it is sure, and nothing more is read.
    fn quoted(&mut self, quote: u8) -> Option<Token<'t>> {
        let mut bytes = self.rest().bytes().enumerate().skip(1).peekable();
        while let Some((at, byte)) = bytes.next() {
            if byte == b'\\' && quote != b'`' {
                break;
            }
            if byte == quote && bytes.next_if(|(_, next)| *next == quote).is_none() {
                self.at += at + 1;
                return Some(Token::Quoted);
            }
        }
        self.at = self.text.len();
        None
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        loop {
            match self.rest().as_bytes() {
                [] => return None,
                [0..=b' ', ..] => self.at += 1,
                [b'#', ..] | [b'-', b'-', 0..=b' ', ..] | [b'-', b'-'] => self.skip("\n"),
                [b'/', b'*', b'!', ..] => self.enter(3),
                [b'/', b'*', b'M', b'!', ..] => self.enter(4),
                [b'/', b'*', ..] => {
                    // `/*/` is no whole comment.
                    self.at += 2;
                    self.skip("*/");
                }
                [b'*', b'/', ..] if self.is_inside => {
                    self.at += 2;
                    self.is_inside = false;
                }
                [quote @ (b'\'' | b'"' | b'`'), ..] => return self.quoted(*quote),
                [mark, ..] if !is_part(*mark) => {
                    let mark = *mark;
                    self.at += 1;
                    return Some(Token::Mark(mark));
                }
                rest => {
                    let length = rest.iter().take_while(|byte| is_part(**byte)).count();
                    let word = &self.text[self.at..self.at + length];
                    self.at += length;
                    return Some(Token::Word(word));
                }
            }
        }
    }
}

/// Whether a byte is part of a word. Those of a char that is none of ASCII all are, so that no char is cut.
fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'@' | b'.' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<&str> {
        let word = |token| match token {
            Token::Word(word) => word,
            Token::Quoted => "?",
            Token::Mark(_) => "!",
        };
        Tokens::new(text).map(word).collect()
    }

    #[test]
    fn comments_are_left_out_and_what_is_quoted_is_one_part() {
        assert_eq!(words("ALTER/* a 'b */TABLE--x\n-- c `\ny # d\n z"), ["ALTER", "TABLE", "!", "!", "x", "y", "z"]);
        assert_eq!(words("a '--  ''/*' \"#\" `/*```b"), ["a", "?", "?", "?", "b"]);
        assert_eq!(words("/*!50000 ALTER /* n */ TABLE*/ t"), ["ALTER", "TABLE", "t"]);
        assert_eq!(words("/*M!100300 a*/b*/"), ["a", "b", "!", "!"]);
        assert_eq!(words("a /*/ b */ c /* d"), ["a", "c"]);
        assert_eq!(words("größe\u{a0}a(b)"), ["größe\u{a0}a", "!", "b", "!"]);
        // What is not sure ends it.
        for text in [r"a '\' b", "a 'b", "a `b``"] {
            assert_eq!(words(text), ["a"], "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_read_to_its_end(text in any::<String>(), parts in proptest::collection::vec(0..16usize, 0..40)) {
            const PARTS: [&str; 16] =
                ["/*", "*/", "/*!", "/*M!", "50000", "'", "\"", "`", "\\", "#", "-- ", "\n", "(", ")", "ä", "FOR"];
            let made: String = parts.into_iter().map(|part| PARTS[part]).collect();
            for text in [text, made] {
                let mut tokens = Tokens::new(&text);
                prop_assert!(tokens.by_ref().count() <= text.len());
                prop_assert_eq!(tokens.rest(), "");
            }
        }
    }
}
