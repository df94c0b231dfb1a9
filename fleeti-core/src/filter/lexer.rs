//! Words, operators and parentheses of a filter, with their columns.

use super::error::FilterError;
use super::{FILTER_MAX, expression::is_plain};

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word without quotes.
    Word(String),
    /// A text in quotes.
    Quoted(String),
    /// `=`, `!=`, `~`, `!~`, `<`, `<=`, `>` or `>=`.
    Operator(&'static str),
    Open,
    Close,
    Comma,
    /// The end of the text.
    End,
}

/// A part of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    /// Characters from 1.
    pub column: usize,
}

impl Token {
    /// The token for an error.
    pub(super) fn shown(&self) -> String {
        match &self.kind {
            Kind::Word(text) | Kind::Quoted(text) => format!("{text:?}"),
            Kind::Operator(text) => format!("\"{text}\""),
            Kind::Open => "\"(\"".to_owned(),
            Kind::Close => "\")\"".to_owned(),
            Kind::Comma => "\",\"".to_owned(),
            Kind::End => "the end".to_owned(),
        }
    }
}

/// Operators, the longer ones first.
const OPERATORS: [&str; 9] = ["!=", "!~", "<=", ">=", "==", "=", "~", "<", ">"];

/// All tokens of a text, and the end.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() > FILTER_MAX {
        let message =
            format!("it has {} characters, at most {FILTER_MAX} are allowed", characters.len());
        return Err(FilterError::new(FILTER_MAX + 1, message, "use a label for such a group"));
    }
    let mut lexer = Lexer { rest: &characters, column: 1 };
    let mut found = Vec::new();
    loop {
        let token = lexer.next()?;
        let is_end = token.kind == Kind::End;
        found.push(token);
        if is_end {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    rest: &'a [char],
    column: usize,
}

impl Lexer<'_> {
    fn skip(&mut self, characters: usize) {
        self.rest = self.rest.get(characters..).unwrap_or_default();
        self.column += characters;
    }

    fn next(&mut self) -> Result<Token, FilterError> {
        let blank = self.rest.iter().take_while(|c| c.is_whitespace()).count();
        self.skip(blank);
        let column = self.column;
        let Some(first) = self.rest.first().copied() else {
            return Ok(Token { kind: Kind::End, column });
        };
        let kind = match first {
            '(' => self.one(Kind::Open),
            ')' => self.one(Kind::Close),
            ',' => self.one(Kind::Comma),
            '"' => self.quoted()?,
            c if is_plain(c) => {
                let word: String = self.rest.iter().take_while(|c| is_plain(**c)).collect();
                self.skip(word.chars().count());
                Kind::Word(word)
            }
            other => self.operator(other)?,
        };
        Ok(Token { kind, column })
    }

    fn one(&mut self, kind: Kind) -> Kind {
        self.skip(1);
        kind
    }

    fn operator(&mut self, first: char) -> Result<Kind, FilterError> {
        let fits = |text: &&&str| {
            self.rest.len() >= text.len() && text.chars().zip(self.rest).all(|(a, b)| a == *b)
        };
        let Some(text) = OPERATORS.iter().find(fits).copied() else {
            let message = format!("{first:?} is not part of the language");
            let hint = match first {
                '\'' => "use double quotes: name=\"Front desk\"",
                '&' => "write and",
                '|' => "write or",
                '!' => "write not, or != and !~",
                _ => "put text with such characters in double quotes",
            };
            return Err(FilterError::new(self.column, message, hint));
        };
        self.skip(text.len());
        Ok(Kind::Operator(if text == "==" { "=" } else { text }))
    }

    fn quoted(&mut self) -> Result<Kind, FilterError> {
        let opened = self.column;
        self.skip(1);
        let mut text = String::new();
        loop {
            let Some(c) = self.rest.first().copied() else {
                let hint = "end the text with \"; write \\\" for a quote in it";
                return Err(FilterError::new(opened, "the quote is not closed", hint));
            };
            self.skip(1);
            match c {
                '"' => return Ok(Kind::Quoted(text)),
                '\\' => match self.rest.first().copied() {
                    Some(escaped @ ('"' | '\\')) => {
                        self.skip(1);
                        text.push(escaped);
                    }
                    _ => {
                        let hint = "write \\\\ for a backslash and \\\" for a quote";
                        let message = "a backslash stands before \\ and \" only";
                        return Err(FilterError::new(self.column - 1, message, hint));
                    }
                },
                c => text.push(c),
            }
        }
    }
}
