//! All pages and what is wrong with them. Each fault is one line: file, line, what is wrong, what to do.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tailops::{config, tools};

use super::{
    page::{Block, Page, Span},
    shell,
};

/// Folders of the repository whose files are named in code spans.
const FOLDERS: &[&str] = &[
    ".ci/",
    "acl/",
    "benches/",
    "docs/",
    "examples/",
    "fuzz/",
    "migrations/",
    "packaging/",
    "scripts/",
    "src/",
    "tests/",
];

/// Words behind which a command of the shell's grammar begins.
const KEYWORDS: &[&str] = &["!", "{", "do", "else", "elif", "if", "then", "until", "while", "time", "sudo", "exec"];

pub struct Book {
    root: PathBuf,
    /// By path in the repository.
    pages: BTreeMap<String, Page>,
}

impl Book {
    /// Every page of the repository at `root`: `*.md` there and in docs, and the README of each example.
    pub fn load(root: &Path) -> Self {
        let mut pages = BTreeMap::new();
        let mut folders = vec![root.to_owned(), root.join("docs"), root.join("fuzz")];
        folders.extend(files(&root.join("examples")));
        for path in folders.iter().flat_map(|folder| files(folder)) {
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                let page = Page::read(&name, &fs::read_to_string(&path).unwrap());
                pages.insert(name, page);
            }
        }
        Self { root: root.to_owned(), pages }
    }

    pub fn pages(&self) -> impl Iterator<Item = &Page> {
        self.pages.values()
    }

    /// Everything that is wrong.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for page in self.pages.values() {
            let mut add = |line: usize, what: String| faults.push(format!("{}:{line}: {what}", page.name));
            for line in &page.open {
                add(*line, "this block is never closed: end it with a fence of its own".into());
            }
            for block in &page.blocks {
                of_block(block, &mut add);
            }
            for link in &page.links {
                if let Some(what) = self.of_link(page, &link.text) {
                    add(link.line, what);
                }
            }
            for span in &page.code {
                if let Some(what) = self.of_code(span) {
                    add(span.line, what);
                }
            }
        }
        self.of_index(&mut faults);
        self.of_examples(&mut faults);
        faults
    }

    fn of_link(&self, page: &Page, link: &str) -> Option<String> {
        if ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
            return None;
        }
        let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
        if path.starts_with('/') {
            return Some(format!("the link {link:?} begins at no page: write it relative to this one"));
        }
        let folder = Path::new(&page.name).parent().unwrap_or(Path::new(""));
        let target = if path.is_empty() { PathBuf::from(&page.name) } else { plain(&folder.join(path)) };
        if !self.root.join(&target).exists() {
            return Some(format!("the link {link:?} leads nowhere: there is no {}", target.display()));
        }
        let anchor = anchor?;
        let Some(there) = target.to_str().and_then(|name| self.pages.get(name)) else {
            return Some(format!("the link {link:?} has an anchor, but {} is no page", target.display()));
        };
        let known = || there.anchors.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        (!there.anchors.contains(anchor))
            .then(|| format!("{} has no heading #{anchor}; it has: {}", there.name, known()))
    }

    /// Paths of files, and command lines.
    fn of_code(&self, Span { text, .. }: &Span) -> Option<String> {
        if let Some(words) = text.strip_prefix("tailops ") {
            return of_named_command(words.split_whitespace())
                .map(|word| format!("`{text}`: there is no command {word:?}: correct it"));
        }
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let file =
            FOLDERS.iter().any(|folder| text.starts_with(folder)) || (text.contains('/') && text.ends_with(".rs"));
        let there = || ["", "src", "tests/it"].iter().any(|folder| self.root.join(folder).join(text).exists());
        (plain && file && !there())
            .then(|| format!("`{text}`: there is no such file, neither here nor in src: correct the path"))
    }

    /// Whether the index names every page of docs.
    fn of_index(&self, faults: &mut Vec<String>) {
        let index = self.pages.get("docs/README.md");
        for name in self.pages.keys().filter_map(|name| name.strip_prefix("docs/")).filter(|name| *name != "README.md")
        {
            let leads = |link: &Span| link.text == name || link.text.strip_prefix("./") == Some(name);
            if !index.is_some_and(|index| index.links.iter().any(leads)) {
                faults.push(format!("docs/README.md:1: does not link to {name}: add a line for it"));
            }
        }
    }

    /// Whether the configurations that are shipped load.
    fn of_examples(&self, faults: &mut Vec<String>) {
        for path in files(&self.root.join("examples")).iter().flat_map(|folder| files(folder)) {
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path).unwrap();
                let name = path.strip_prefix(&self.root).unwrap();
                if let Err(problems) = load_config(name, &text) {
                    faults.extend(problems.to_string().lines().map(str::to_owned));
                }
            }
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// `path` without `.` and `..`, as text.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn load_config(path: &Path, text: &str) -> Result<config::Config, config::Problems> {
    let names: Vec<&str> = tools::ALL.iter().map(|tool| tool.spec().name).collect();
    config::load(path, text, &names)
}

fn of_block(block: &Block, add: &mut impl FnMut(usize, String)) {
    let mut info = block.info.split_whitespace();
    let (language, mark) = (info.next().unwrap_or_default(), info.collect::<Vec<_>>().join(" "));
    let unmarked = if language == "toml" { ["", "fragment"].contains(&mark.as_str()) } else { mark.is_empty() };
    if !unmarked {
        add(
            block.line - 1,
            format!("{:?} says more than is known behind a fence: write `{language}` alone", block.info),
        );
    }
    match language {
        "toml" if mark == "fragment" => {
            if let Err(error) = block.text.parse::<toml::Table>() {
                let line = error.span().map_or(0, |span| block.text[..span.start].matches('\n').count());
                add(block.line + line, format!("this is no TOML: {}", error.message()));
            }
        }
        "toml" => {
            for problem in load_config(Path::new(""), &block.text).err().iter().flat_map(config::Problems::iter) {
                let config::Problem { line, path, message, .. } = problem;
                let mend = "mend it, or mark a part of a file with `toml fragment`";
                add(block.line + line - 1, format!("this configuration does not load: {path}: {message}: {mend}"));
            }
        }
        "json" | "jsonl" => of_json(block, add),
        "sh" | "bash" | "shell" => of_commands(block, &block.text, add),
        "console" => {
            let typed = shell::typed(&block.text);
            if typed.trim().is_empty() {
                add(block.line, "nothing is typed in this console: begin commands with `$ `".into());
            }
            of_commands(block, &typed, add);
        }
        _ => {
            for (index, _) in block.text.lines().enumerate().filter(|(_, line)| is_call(line)) {
                add(block.line + index, "a command in a block that is not checked: open it with ```sh".into());
            }
        }
    }
}

fn is_call(line: &str) -> bool {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    line.starts_with("tailops ") || line.starts_with("cargo run ")
}

/// One JSON text or several. Those that look like calls of a tool must be such.
fn of_json(block: &Block, add: &mut impl FnMut(usize, String)) {
    let mut texts = serde_json::Deserializer::from_str(&block.text).into_iter::<Value>();
    loop {
        let (before, rest) = block.text.split_at(texts.byte_offset());
        let blank = rest.len() - rest.trim_start().len();
        let line = block.line + before.matches('\n').count() + rest[..blank].matches('\n').count();
        match texts.next() {
            None => return,
            Some(Err(error)) => {
                add(block.line + error.line().max(1) - 1, format!("this is no JSON: {error}"));
                return;
            }
            Some(Ok(value)) => {
                if let Some(what) = of_call(&value) {
                    add(line, what);
                }
            }
        }
    }
}

fn of_call(value: &Value) -> Option<String> {
    let object = value.as_object().filter(|object| object.len() == 2)?;
    let (name, arguments) = (object.get("name")?.as_str()?, object.get("arguments")?);
    let Some(tool) = tools::find(name) else {
        return Some(format!("there is no tool {name:?}: correct the example"));
    };
    let schema = jsonschema::validator_for(&(tool.spec().input)()).unwrap();
    schema.validate(arguments).err().map(|error| format!("{name} does not take these arguments: {error}"))
}

fn of_commands(block: &Block, text: &str, add: &mut impl FnMut(usize, String)) {
    let commands = match shell::commands(text) {
        Ok(commands) => commands,
        Err((line, what)) => return add(block.line + line, format!("a shell cannot read this: {what}")),
    };
    for shell::Command { line, words } in commands {
        let words = without_preamble(&words);
        let arguments: &[&str] = match words.as_slice() {
            ["tailops" | "target/debug/tailops" | "target/release/tailops", arguments @ ..] => arguments,
            ["cargo", "run", rest @ ..] => match rest.iter().position(|word| *word == "--") {
                Some(at) => &rest[at + 1..],
                None => &[],
            },
            _ => continue,
        };
        if let Err(error) = tailops::cli::command().try_get_matches_from(["tailops"].iter().chain(arguments)) {
            use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
            if !matches!(error.kind(), DisplayHelp | DisplayVersion) {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                add(block.line + line, format!("tailops does not take `{}`: {first}", words.join(" ")));
            }
        }
    }
}

/// The words of a command without what may stand before it: keywords, assignments, and the user whom sudo becomes.
fn without_preamble(words: &[String]) -> Vec<&str> {
    let assigned = |word: &str| word.split_once('=').is_some_and(|(name, _)| is_name(name));
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next_if(|word| KEYWORDS.contains(word) || assigned(word)) {
        if word == "sudo" && words.next_if_eq(&"-u").is_some() {
            words.next();
        }
    }
    words.collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The first of these words that names a command that is not there.
fn of_named_command<'w>(words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let mut command = tailops::cli::command();
    for word in words {
        let named = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !word.starts_with('-');
        if !named || !command.has_subcommands() {
            return None;
        }
        match command.find_subcommand(word).cloned() {
            Some(below) => command = below,
            None => return Some(word),
        }
    }
    None
}
