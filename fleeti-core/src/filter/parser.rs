//! Reads a filter:
//!
//! ```text
//! filter = [ any ]
//! any    = all { "or" all }
//! all    = one { "and" one }
//! one    = "not" one | "(" any ")" | test
//! test   = flag | text | field operator value | field [ "not" ] "in" "(" value { "," value } ")"
//! ```

use super::error::FilterError;
use super::expression::{
    FLAGS, Filter, LabelTest, Node, Order, TEXT_FIELDS, Test, TextField, TextTest, UNITS, WORDS,
};
use super::lexer::{Kind, Token, tokens};
use super::{DEPTH_MAX, SEEN_STEP_S, TESTS_MAX, VALUES_MAX};
use crate::id::{LabelKey, Version};
use crate::profile::nearest;
use crate::update::State;

type Result<T> = std::result::Result<T, FilterError>;

pub(super) fn parse(text: &str) -> Result<Filter> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, tests: 0, depth: 0, labels: vec![] };
    if parser.peek().kind == Kind::End {
        return Ok(Filter::default());
    }
    let root = parser.any()?;
    let rest = parser.peek();
    if rest.kind != Kind::End {
        let hint = match &rest.kind {
            Kind::Close => "remove it, or open a parenthesis before it",
            _ => "put and or or between two tests, and text with spaces in double quotes",
        };
        let message = format!("{} is not expected here", rest.shown());
        return Err(FilterError::new(rest.column, message, hint));
    }
    Ok(Filter { root, labels: parser.labels })
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    tests: usize,
    depth: usize,
    labels: Vec<(usize, LabelKey, LabelTest)>,
}

/// What a test begins with.
enum Subject {
    Text(TextField),
    Version,
    LastSeen,
    Flag(&'static str),
    Label(LabelKey),
}

/// What follows the subject of a test.
struct Comparison {
    operator: &'static str,
    column: usize,
    values: Vec<(usize, String)>,
}

impl Parser {
    fn peek(&self) -> &Token {
        static END: Token = Token { kind: Kind::End, column: 1 };
        self.tokens.get(self.at).or(self.tokens.last()).unwrap_or(&END)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.peek().kind, Kind::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn any(&mut self) -> Result<Node> {
        self.list("or", Self::all, Node::Any)
    }

    fn all(&mut self) -> Result<Node> {
        self.list("and", Self::one, Node::All)
    }

    fn list(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Result<Node>,
        of: fn(Vec<Node>) -> Node,
    ) -> Result<Node> {
        let first = part(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.is_word(word) {
            self.take();
            parts.push(part(self)?);
        }
        Ok(of(parts))
    }

    fn one(&mut self) -> Result<Node> {
        let column = self.peek().column;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} levels of parentheses and not");
            return Err(FilterError::new(column, message, "write it with fewer parentheses"));
        }
        let node = if self.is_word("not") {
            self.take();
            Node::Not(Box::new(self.one()?))
        } else if self.peek().kind == Kind::Open {
            self.take();
            let node = self.any()?;
            self.close(column)?;
            node
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn close(&mut self, opened: usize) -> Result<()> {
        let token = self.take();
        match token.kind {
            Kind::Close => Ok(()),
            Kind::End => Err(FilterError::new(
                opened,
                "the parenthesis is not closed",
                "add ) at the end of the group",
            )),
            _ => {
                let message = format!("{} is not expected here", token.shown());
                let hint = "put and or or between two tests, and close the group with )";
                Err(FilterError::new(token.column, message, hint))
            }
        }
    }

    fn test(&mut self) -> Result<Node> {
        let token = self.take();
        self.tests += 1;
        if self.tests > TESTS_MAX {
            let message = format!("more than {TESTS_MAX} tests");
            return Err(FilterError::new(
                token.column,
                message,
                "use in (a, b) for several values",
            ));
        }
        let word = match &token.kind {
            Kind::Quoted(text) => return searched(token.column, text),
            Kind::Word(word) => word.clone(),
            _ => return Err(missing(&token)),
        };
        if ["and", "or", "in"].iter().any(|taken| word.eq_ignore_ascii_case(taken)) {
            return Err(missing(&token));
        }
        let Some(comparison) = self.comparison()? else {
            return self.bare(token.column, &word);
        };
        let subject = subject(token.column, &word)?;
        self.compare(token.column, subject, comparison)
    }

    /// A test without an operator: a flag, a label that a device has, or a text to search.
    fn bare(&mut self, column: usize, word: &str) -> Result<Node> {
        if let Some((_, flag)) = FLAGS.iter().find(|(name, _)| *name == word) {
            return Ok(Node::Test(Test::Flag(*flag)));
        }
        if let Some(key) = word.strip_prefix("label.") {
            let key = label_key(column, key)?;
            return Ok(self.label(column, key, LabelTest::Present));
        }
        if WORDS.contains(&word) {
            let message = format!("{word} is not compared with anything");
            let hint =
                format!("write {word}=VALUE, or \"{word}\" in quotes to search for the word");
            return Err(FilterError::new(column, message, hint));
        }
        searched(column, word)
    }

    fn label(&mut self, column: usize, key: LabelKey, test: LabelTest) -> Node {
        self.labels.push((column, key.clone(), test.clone()));
        Node::Test(Test::Label(key, test))
    }

    fn comparison(&mut self) -> Result<Option<Comparison>> {
        let column = self.peek().column;
        if let Kind::Operator(operator) = self.peek().kind {
            self.take();
            let values = vec![self.value()?];
            return Ok(Some(Comparison { operator, column, values }));
        }
        let next_is_in = |token: Option<&Token>| matches!(token.map(|t| &t.kind), Some(Kind::Word(w)) if w.eq_ignore_ascii_case("in"));
        let operator = if self.is_word("in") {
            "in"
        } else if self.is_word("not") && next_is_in(self.tokens.get(self.at + 1)) {
            self.take();
            "not in"
        } else {
            return Ok(None);
        };
        self.take();
        Ok(Some(Comparison { operator, column, values: self.values()? }))
    }

    fn value(&mut self) -> Result<(usize, String)> {
        let token = self.take();
        match token.kind {
            Kind::Word(text) | Kind::Quoted(text) => Ok((token.column, text)),
            _ => {
                let message = format!("a value is missing before {}", token.shown());
                let hint = "write a word, or a text in double quotes";
                Err(FilterError::new(token.column, message, hint))
            }
        }
    }

    fn values(&mut self) -> Result<Vec<(usize, String)>> {
        let opened = self.take();
        let hint = "write the values in parentheses: site in (berlin, bonn)";
        if opened.kind != Kind::Open {
            let message = format!("( is missing before {}", opened.shown());
            return Err(FilterError::new(opened.column, message, hint));
        }
        let mut values = vec![self.value()?];
        loop {
            let token = self.take();
            match token.kind {
                Kind::Close => return Ok(values),
                Kind::Comma if values.len() < VALUES_MAX => values.push(self.value()?),
                Kind::Comma => {
                    let message = format!("more than {VALUES_MAX} values");
                    return Err(FilterError::new(
                        token.column,
                        message,
                        "use a label for such a group",
                    ));
                }
                _ => {
                    let message = format!(", or ) is missing before {}", token.shown());
                    return Err(FilterError::new(token.column, message, hint));
                }
            }
        }
    }

    fn compare(&mut self, column: usize, subject: Subject, by: Comparison) -> Result<Node> {
        let is_negated = matches!(by.operator, "!=" | "!~" | "not in");
        let test = match subject {
            Subject::Text(field) => Node::Test(Test::Text(field, text_test(field, by)?)),
            Subject::Version => version(by)?,
            Subject::LastSeen => Node::Test(last_seen(by)?),
            Subject::Flag(name) => {
                let hint = format!("write {name} or not {name}");
                return Err(FilterError::new(by.column, format!("{name} has no value"), hint));
            }
            Subject::Label(key) => {
                let test = label_test(by)?;
                self.label(column, key, test)
            }
        };
        Ok(if is_negated { Node::Not(Box::new(test)) } else { test })
    }
}

fn missing(token: &Token) -> FilterError {
    let message = format!("a test is missing before {}", token.shown());
    FilterError::new(token.column, message, "write a test such as site=berlin or version<2")
}

fn searched(column: usize, text: &str) -> Result<Node> {
    if text.is_empty() {
        return Err(FilterError::new(column, "the text is empty", "write the text to search for"));
    }
    Ok(Node::Test(Test::Search(text.to_owned())))
}

fn label_key(column: usize, key: &str) -> Result<LabelKey> {
    key.parse().map_err(|e: crate::id::NameError| {
        FilterError::new(column, e.to_string(), "see `fleeti label keys` for the keys that exist")
    })
}

/// A field, or else a label.
fn subject(column: usize, word: &str) -> Result<Subject> {
    if let Some((_, field)) = TEXT_FIELDS.iter().find(|(name, _)| *name == word) {
        return Ok(Subject::Text(*field));
    }
    if let Some((name, _)) = FLAGS.iter().find(|(name, _)| *name == word) {
        return Ok(Subject::Flag(name));
    }
    match word {
        "version" => Ok(Subject::Version),
        "last_seen" => Ok(Subject::LastSeen),
        "online" => Err(FilterError::new(
            column,
            "there is no field online",
            "write last_seen<15m for devices that the server heard of in the last minutes",
        )),
        word => label_key(column, word.strip_prefix("label.").unwrap_or(word)).map(Subject::Label),
    }
}

fn values(by: Comparison) -> Vec<String> {
    by.values.into_iter().map(|(_, value)| value).collect()
}

fn first(by: &Comparison) -> (usize, &str) {
    by.values.first().map_or((by.column, ""), |(column, value)| (*column, value.as_str()))
}

fn no_order(by: &Comparison, hint: &str) -> FilterError {
    FilterError::new(by.column, format!("{} does not compare texts", by.operator), hint)
}

fn text_test(field: TextField, by: Comparison) -> Result<TextTest> {
    match by.operator {
        "=" | "!=" | "in" | "not in" => {
            if field == TextField::State {
                check_states(&by)?;
            }
            Ok(TextTest::OneOf(values(by)))
        }
        "~" | "!~" if first(&by).1.is_empty() => {
            Err(FilterError::new(first(&by).0, "the text is empty", "write the text to search for"))
        }
        "~" | "!~" => Ok(TextTest::Contains(first(&by).1.to_owned())),
        _ => Err(no_order(&by, "use =, != or in, or ~ for a part of the text")),
    }
}

fn check_states(by: &Comparison) -> Result<()> {
    let unknown = by.values.iter().find(|(_, state)| !State::NAMES.contains(&state.as_str()));
    match unknown {
        None => Ok(()),
        Some((column, state)) => {
            let hint = match nearest(state, State::NAMES) {
                Some(near) => format!("write {near}"),
                None => format!("the states are {}", State::NAMES.join(", ")),
            };
            Err(FilterError::new(*column, format!("{state:?} is not a state of an update"), hint))
        }
    }
}

fn order(operator: &str) -> Option<Order> {
    match operator {
        "<" => Some(Order::Less),
        "<=" => Some(Order::AtMost),
        ">=" => Some(Order::AtLeast),
        ">" => Some(Order::Greater),
        "=" | "!=" | "in" | "not in" => Some(Order::Equal),
        _ => None,
    }
}

fn version(by: Comparison) -> Result<Node> {
    let Some(order) = order(by.operator) else {
        return Err(no_order(&by, "use =, !=, <, <=, > or >=: version<2.1"));
    };
    let one = |(column, text): &(usize, String)| match text.parse::<Version>() {
        Ok(version) => Ok(Node::Test(Test::Version(order, version))),
        Err(e) => Err(FilterError::new(*column, e.to_string(), "write a version such as 2.1")),
    };
    let mut all = by.values.iter().map(one).collect::<Result<Vec<_>>>()?;
    Ok(if all.len() == 1 { all.remove(0) } else { Node::Any(all) })
}

fn last_seen(by: Comparison) -> Result<Test> {
    let hint = "write last_seen>7d for silence of more than 7 days, or last_seen<1h";
    let (column, text) = first(&by);
    let seconds = age(text).ok_or_else(|| {
        let message = format!("{text:?} is not an age: a number and s, m, h, d or w");
        FilterError::new(column, message, hint)
    })?;
    if seconds < SEEN_STEP_S {
        let message = format!("{text} is too short: the time is kept in steps of 15 minutes");
        return Err(FilterError::new(column, message, "write 15m or more"));
    }
    match by.operator {
        ">" | ">=" => Ok(Test::SeenBefore(seconds)),
        "<" | "<=" => Ok(Test::SeenWithin(seconds)),
        _ => {
            Err(FilterError::new(by.column, format!("{} does not compare ages", by.operator), hint))
        }
    }
}

/// Seconds of an age such as `7d`, at most a hundred years.
fn age(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let digits = text.strip_suffix(unit)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    number.checked_mul(*length).filter(|seconds| *seconds <= 100 * 366 * 86_400)
}

fn label_test(by: Comparison) -> Result<LabelTest> {
    match by.operator {
        "=" | "!=" | "in" | "not in" => Ok(LabelTest::OneOf(values(by))),
        "~" | "!~" if first(&by).1.is_empty() => {
            Err(FilterError::new(first(&by).0, "the text is empty", "write the text to search for"))
        }
        "~" | "!~" => Ok(LabelTest::Contains(first(&by).1.to_owned())),
        operator => {
            let (column, text) = first(&by);
            let number = text.parse().map_err(|_| {
                let message = format!("{text:?} is not a whole number");
                FilterError::new(column, message, "compare texts with =, in or ~")
            })?;
            Ok(LabelTest::Number(order(operator).unwrap_or(Order::Equal), number))
        }
    }
}
