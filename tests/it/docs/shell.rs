//! Takes shell text apart into simple commands, as far as documentation needs it: quotes, continued lines, pipes,
//! redirections, substitutions and here-documents. Runs nothing and expands nothing.

/// One simple command: its words, and the line of the text (counted from 0) where it begins.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    pub line: usize,
    pub words: Vec<String>,
}

/// The lines of a `console` block that were typed: those behind a prompt, with the lines that continue them. What the
/// machine printed becomes empty lines, so that lines keep their number.
pub fn typed(text: &str) -> String {
    let mut continued = false;
    let lines = text.lines().map(|line| {
        let typed = if continued { Some(line) } else { line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")) };
        continued = typed.is_some_and(|line| line.ends_with('\\'));
        typed.unwrap_or_default()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Every simple command, those in substitutions too. Errors with the line of what does not end.
pub fn commands(text: &str) -> Result<Vec<Command>, (usize, &'static str)> {
    let mut reader = Reader {
        rest: text.chars().collect(),
        at: 0,
        line: 0,
        commands: Vec::new(),
        words: Vec::new(),
        began: 0,
        drop_next: false,
    };
    reader.read()?;
    Ok(reader.commands)
}

struct Reader {
    rest: Vec<char>,
    at: usize,
    line: usize,
    commands: Vec<Command>,
    words: Vec<String>,
    began: usize,
    /// The next word is where something is redirected to.
    drop_next: bool,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn end_word(&mut self, word: &mut Option<String>) {
        let Some(word) = word.take() else { return };
        if std::mem::take(&mut self.drop_next) {
            return;
        }
        if self.words.is_empty() {
            self.began = self.line;
        }
        self.words.push(word);
    }

    fn end_command(&mut self) {
        self.drop_next = false;
        let words = std::mem::take(&mut self.words);
        if !words.is_empty() {
            self.commands.push(Command { line: self.began, words });
        }
    }

    fn read(&mut self) -> Result<(), (usize, &'static str)> {
        let mut word: Option<String> = None;
        let mut documents: Vec<String> = Vec::new();
        while let Some(c) = self.next() {
            match c {
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(c) => word.get_or_insert_default().push(c),
                },
                '\'' => {
                    let line = self.line;
                    let text = word.get_or_insert_default();
                    loop {
                        match self.rest.get(self.at).copied() {
                            None => return Err((line, "a quote is not closed")),
                            Some('\'') => break,
                            Some(c) => text.push(c),
                        }
                        self.line += usize::from(self.rest[self.at] == '\n');
                        self.at += 1;
                    }
                    self.at += 1;
                }
                '"' => {
                    let inner = self.quoted()?;
                    word.get_or_insert_default().push_str(&inner);
                }
                '#' if word.is_none() => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.next();
                    }
                }
                '$' if self.peek(0) == Some('(') => {
                    word.get_or_insert_default().push('$');
                    self.next();
                    let inner = self.substitution()?;
                    self.nested(&inner)?;
                }
                '<' | '>' => {
                    // `2>` belongs to the operator.
                    if word.as_deref().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit())) {
                        word = None;
                    }
                    self.end_word(&mut word);
                    let mut operator = String::from(c);
                    while let Some(c @ ('<' | '>' | '&' | '-' | '|')) = self.peek(0) {
                        operator.push(c);
                        self.next();
                    }
                    if operator == "<<" || operator == "<<-" {
                        documents.push(self.delimiter());
                    } else if self.peek(0) == Some('(') {
                        self.next();
                        let inner = self.substitution()?;
                        self.nested(&inner)?;
                    } else {
                        self.drop_next = true;
                    }
                }
                '|' | '&' | ';' | '(' | ')' => {
                    self.end_word(&mut word);
                    self.end_command();
                }
                '\n' => {
                    // The word ended on the line before this one.
                    self.line -= 1;
                    self.end_word(&mut word);
                    self.end_command();
                    self.line += 1;
                    for delimiter in std::mem::take(&mut documents) {
                        self.skip_document(&delimiter)?;
                    }
                }
                c if c.is_whitespace() => self.end_word(&mut word),
                c => word.get_or_insert_default().push(c),
            }
        }
        self.end_word(&mut word);
        self.end_command();
        Ok(())
    }

    /// The inside of double quotes. A substitution in it is read as commands and stands as `$` in the text.
    fn quoted(&mut self) -> Result<String, (usize, &'static str)> {
        let line = self.line;
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err((line, "a quote is not closed")),
                Some('"') => return Ok(text),
                Some('\\') => text.extend(self.next()),
                Some('$') if self.peek(0) == Some('(') => {
                    text.push('$');
                    self.next();
                    let inner = self.substitution()?;
                    self.nested(&inner)?;
                }
                Some(c) => text.push(c),
            }
        }
    }

    /// What stands before the closing parenthesis, with its line.
    fn substitution(&mut self) -> Result<(usize, String), (usize, &'static str)> {
        let line = self.line;
        let (mut depth, mut quote, mut inner) = (1, None, String::new());
        while let Some(c) = self.next() {
            match (c, quote) {
                ('\'' | '"', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                ('(', None) => depth += 1,
                (')', None) => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok((line, inner));
            }
            inner.push(c);
        }
        Err((line, "a substitution is not closed"))
    }

    fn nested(&mut self, (line, inner): &(usize, String)) -> Result<(), (usize, &'static str)> {
        let found = commands(inner).map_err(|(at, what)| (line + at, what))?;
        self.commands.extend(found.into_iter().map(|command| Command { line: command.line + line, ..command }));
        Ok(())
    }

    fn delimiter(&mut self) -> String {
        while self.peek(0) == Some(' ') {
            self.next();
        }
        let mut delimiter = String::new();
        while let Some(c) = self.peek(0).filter(|c| !c.is_whitespace()) {
            if !"'\"\\".contains(c) {
                delimiter.push(c);
            }
            self.next();
        }
        delimiter
    }

    fn skip_document(&mut self, delimiter: &str) -> Result<(), (usize, &'static str)> {
        let began = self.line;
        let mut line = String::new();
        while let Some(c) = self.next() {
            if c != '\n' {
                line.push(c);
            } else if std::mem::take(&mut line).trim() == delimiter {
                return Ok(());
            }
        }
        if line.trim() == delimiter { Ok(()) } else { Err((began, "a here-document is not closed")) }
    }
}
