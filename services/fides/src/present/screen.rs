//! A screen of its own in the terminal, drawn again and again; what was there before comes back at its end.

use std::io::Write;

use console::{Term, measure_text_width};

use super::{number, out};
use crate::failure::Failure;

/// The other screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// A terminal that knows these shows all of a frame at once.
const BEGIN: &str = "\x1b[?2026h\x1b[H";
const END: &str = "\x1b[J\x1b[?2026l";
/// Clears what the frame before had behind a line.
const LINE_END: &str = "\x1b[K\r\n";

/// Where results are drawn in place of those before. Where stdout is no terminal they are written below each other.
pub struct Screen {
    terminal: Option<Term>,
}

impl Screen {
    /// Enters the screen.
    pub fn enter() -> Result<Self, Failure> {
        let terminal = Some(Term::stdout()).filter(Term::is_term);
        let screen = Self { terminal };
        if screen.terminal.is_some() {
            out(ENTER)?;
        }
        Ok(screen)
    }

    /// Draws a result: over the one before, without clearing it first, and in one write, so that nothing flickers.
    pub fn draw(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        match &self.terminal {
            Some(terminal) => out(frame(text.as_ref(), terminal.size())),
            None => out(text),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal.is_some() {
            // A terminal that went away needs nothing.
            let _ = std::io::stdout().write_all(LEAVE.as_bytes()).and_then(|()| std::io::stdout().flush());
        }
    }
}

/// The lines that fit, each with what clears the rest of its own; the last one says how many do not.
fn frame(text: &str, (rows, columns): (u16, u16)) -> String {
    let (rows, columns) = (usize::from(rows.max(1)), usize::from(columns.max(1)));
    let height = |line: &&str| measure_text_width(line).div_ceil(columns).max(1);
    // The last row stays empty: a line end there would scroll.
    let mut room = rows - 1;
    let total = text.lines().count();
    let mut shown: Vec<&str> = Vec::new();
    for line in text.lines() {
        let Some(left) = room.checked_sub(height(&line)) else { break };
        room = left;
        shown.push(line);
    }
    let mut frame = String::from(BEGIN);
    let hidden = total - shown.len();
    for line in shown {
        frame.extend([line, LINE_END]);
    }
    if hidden > 0 {
        frame.extend(["… ", number(hidden as u64).as_str(), " more\x1b[K"]);
    }
    frame + END
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_covers_the_one_before_and_never_scrolls() {
        assert_eq!(frame("a\nb\n", (24, 80)), format!("{BEGIN}a{LINE_END}b{LINE_END}{END}"));
        let text = "one\ntwo\nthree\nfour\n";
        assert_eq!(frame(text, (5, 80)).matches(LINE_END).count(), 4, "they just fit");
        assert_eq!(frame(text, (3, 80)), format!("{BEGIN}one{LINE_END}two{LINE_END}… 2 more\x1b[K{END}"));
        assert!(!frame(text, (1, 80)).contains('\n'));
        // A line that is wider than the screen takes more of its rows; colours take none.
        let wide = format!("{}\nshort\n", "x".repeat(81));
        assert!(frame(&wide, (3, 80)).contains("… 1 more"));
        let coloured = format!("\x1b[31m{}\x1b[0m\nshort\n", "x".repeat(80));
        assert!(frame(&coloured, (3, 80)).contains("short"));
    }
}
