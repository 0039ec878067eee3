//! Holds the house rules that neither compiler nor linter checks: who may import whom, how files are named and how
//! long they get, and that every tool is listed and has its cases. Reads sources as text; never runs them.

#[cfg(test)]
mod planted;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use source::{Source, Token};

/// The top-level modules. Each imports only those to its left.
const ORDER: &[&str] = &[
    "model", "config", "store", "tailnet", "auth", "limits", "policy", "approval", "exec", "guard", "audit", "fleet",
    "tools", "pipeline", "mcp", "http", "app", "cli", "main",
];

/// Who may not name a path.
enum Ban {
    /// These modules may not.
    Never(&'static [&'static str]),
    /// All but these modules may not.
    Only(&'static [&'static str]),
}

/// Paths that are not for everyone, over and above [`ORDER`].
const BANS: &[(&str, Ban)] = &[
    ("crate::exec", Ban::Never(&["tools", "mcp", "http"])),
    ("crate::store", Ban::Never(&["tools"])),
    ("crate::auth", Ban::Never(&["exec"])),
    ("tokio", Ban::Never(&["tools", "policy"])),
    ("std::process", Ban::Never(&["tools"])),
    ("std::fs", Ban::Never(&["policy"])),
    ("std::net", Ban::Never(&["policy"])),
    ("sqlx", Ban::Only(&["store"])),
    ("rmcp", Ban::Only(&["mcp"])),
    // `main` hands the arguments to `cli`.
    ("std::env", Ban::Only(&["cli", "main"])),
    ("std::process::Command", Ban::Only(&["exec", "tailnet"])),
    ("tokio::process", Ban::Only(&["exec", "tailnet"])),
];

/// What makes a permit of a question: for those who asked people, and nobody else.
const INTO_PERMIT: (&str, &str) = (".into_permit(", "approval");

/// What acts on the unit of a job without a permit of its own: for the one who knows that a permit started it.
const ABOUT_JOBS: (&[&str], &str) = (&[".look_at_job(", ".stop_job("], "src/fleet/jobs");

/// What changes login keys on targets without a permit: for the one who replaces them, at the word of somebody on the
/// gateway's own host.
const ABOUT_LOGIN_KEYS: (&[&str], &str) = (&[".act_on_login_key("], "src/fleet/rotation");

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "service"];

const MOST_LINES: usize = 500;
const COMMANDS: &[&str] = &["cargo run -- serve --dev", "cargo test"];

/// Files by their path in the repository. Of those that are not Rust only the name counts, except the README.
type Files = BTreeMap<String, String>;

/// The Rust files under `src`, the tools' case files and the README of the repository at `root`.
fn load(root: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    let mut folders = vec![root.join("src"), root.join("tests/cases/tools")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| named(&folder, &error))?;
        for entry in entries {
            let path = entry?.path();
            let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") {
                files.insert(name.to_owned(), fs::read_to_string(&path)?);
            } else {
                files.insert(name.to_owned(), String::new());
            }
        }
    }
    let readme = root.join("README.md");
    files.insert("README.md".to_owned(), fs::read_to_string(&readme).map_err(|error| named(&readme, &error))?);
    Ok(files)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Everything in `files` that breaks a rule, one line each.
fn faults(files: &Files) -> Vec<String> {
    let sources: BTreeMap<&str, Source> = files
        .iter()
        .filter(|(name, _)| name.starts_with("src/") && name.ends_with(".rs"))
        .map(|(name, text)| (name.as_str(), Source::read(text)))
        .collect();
    let mut faults = Vec::new();
    for (name, source) in &sources {
        about_file(name, files.get(*name).map_or("", String::as_str), source, &mut faults);
        if !is_test_only(name, &sources) {
            let (call, module) = INTO_PERMIT;
            let calls = files.get(*name).is_some_and(|text| text.contains(call));
            if calls && module_of(name).first().is_none_or(|own| own != module) {
                faults.push(format!("{name}: only {module} may call `{call}…)`"));
            }
            let text = files.get(*name).map_or("", String::as_str);
            for (calls, home) in [ABOUT_JOBS, ABOUT_LOGIN_KEYS] {
                if let Some(call) = calls.iter().find(|call| text.contains(**call)).filter(|_| !name.starts_with(home))
                {
                    faults.push(format!("{name}: only {home} may call `{call}…)`"));
                }
            }
            about_imports(name, source, &mut faults);
        }
    }
    about_tools(files, &sources, &mut faults);
    let readme = files.get("README.md").map_or("", String::as_str);
    for command in COMMANDS.iter().filter(|command| !readme.contains(**command)) {
        faults.push(format!("README.md: does not name the command `{command}`"));
    }
    faults
}

/// The modules that lead to a file: `["auth", "token"]` for `src/auth/token.rs`, none for `src/lib.rs`.
fn module_of(name: &str) -> Vec<String> {
    let path = name.strip_prefix("src/").unwrap_or(name);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Whether the file, or a module around it, is declared under `#[cfg(test)]`.
fn is_test_only(name: &str, sources: &BTreeMap<&str, Source>) -> bool {
    let mut module = module_of(name);
    while let Some(child) = module.pop() {
        let parent = if module.is_empty() { "src/lib.rs".to_owned() } else { format!("src/{}.rs", module.join("/")) };
        if sources.get(parent.as_str()).is_some_and(|parent| parent.test_modules.contains(&child)) {
            return true;
        }
    }
    false
}

fn about_file(name: &str, text: &str, source: &Source, faults: &mut Vec<String>) {
    if !text.starts_with("//!") {
        faults.push(format!("{name}: does not open with `//!`: what it answers for and what it never does"));
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        faults.push(format!("{name}: has {lines} lines; look for a split above {MOST_LINES}"));
    }
    let module = module_of(name);
    if module.last().is_some_and(|last| last == "mod") {
        faults.push(format!("{name}: is a mod.rs; write foo.rs beside foo/"));
    }
    let named = module.iter().map(String::as_str).chain(source.modules());
    for empty in named.filter(|name| EMPTY_NAMES.contains(name)).collect::<BTreeSet<_>>() {
        faults.push(format!("{name}: a module called `{empty}` says nothing; name it for what it does"));
    }
}

fn about_imports(name: &str, source: &Source, faults: &mut Vec<String>) {
    let module = module_of(name);
    let rank_of = |module: &str| ORDER.iter().position(|known| *known == module);
    let own = module.first().map(String::as_str);
    if let Some(own) = own
        && rank_of(own).is_none()
    {
        faults.push(format!("{name}: module `{own}` has no place in the order of modules"));
    }
    let mut found = BTreeSet::new();
    for mut path in source.paths(&module) {
        // The binary is a crate of its own and names the library.
        if let Some(first) = path.first_mut().filter(|first| *first == "tailops") {
            *first = "crate".to_owned();
        }
        let shown = path.join("::");
        if let ([root, other, ..], Some(own)) = (path.as_slice(), own)
            && root == "crate"
            && other != own
        {
            match rank_of(other) {
                None => {
                    found.insert(format!("{name}: `{shown}` does not say which module it means"));
                }
                Some(rank) if rank_of(own).is_some_and(|own| rank > own) => {
                    found.insert(format!("{name}: `{shown}`: {own} stands before {other} and may not import it"));
                }
                Some(_) => {}
            }
        }
        for (banned, ban) in BANS {
            let forbidden = match ban {
                Ban::Never(modules) => own.is_some_and(|own| modules.contains(&own)),
                Ban::Only(modules) => !own.is_some_and(|own| modules.contains(&own)),
            };
            if forbidden && reaches(&path, banned) {
                let rule = match ban {
                    Ban::Never(_) => format!("{} may never name {banned}", own.unwrap_or("lib")),
                    Ban::Only(modules) => format!("only {} may name {banned}", modules.join(" and ")),
                };
                found.insert(format!("{name}: `{shown}`: {rule}"));
            }
        }
    }
    faults.extend(found);
}

/// Whether `path` leads to `banned` or below it, or is a glob that may bring it in.
fn reaches(path: &[String], banned: &str) -> bool {
    let banned: Vec<&str> = banned.split("::").collect();
    match path.split_last() {
        Some((last, above)) if last == "*" && above.len() < banned.len() => banned.starts_with(&strs(above)),
        _ => strs(path).starts_with(&banned),
    }
}

fn strs(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

fn about_tools(files: &Files, sources: &BTreeMap<&str, Source>, faults: &mut Vec<String>) {
    let listed = sources.get("src/tools.rs").map(listed_tools).unwrap_or_default();
    let mut tools = BTreeSet::new();
    for (name, source) in sources {
        let Some(stem) = name.strip_prefix("src/tools/").and_then(|name| name.strip_suffix(".rs")) else { continue };
        let types = implementors(source);
        if types.len() > 1 {
            faults.push(format!("{name}: holds {} tools; one file a tool", types.len()));
        }
        for tool in types {
            tools.insert(stem);
            let entry = format!("{}::{tool}", stem.replace('/', "::"));
            if !listed.contains(&entry) {
                faults.push(format!("{name}: the tool is not in ALL of src/tools.rs as `&{entry}`"));
            }
            if spec_name(source) != Some(stem) {
                faults.push(format!("{name}: the tool's name is not that of its file"));
            }
            let cases = format!("tests/cases/tools/{stem}.json");
            if !files.contains_key(&cases) {
                faults.push(format!("{name}: the tool has no case file {cases}"));
            }
        }
    }
    for name in files.keys() {
        let stem = name.strip_prefix("tests/cases/tools/").and_then(|name| name.strip_suffix(".json"));
        if stem.is_some_and(|stem| !tools.contains(stem)) {
            faults.push(format!("{name}: there is no tool of this name"));
        }
    }
}

/// The types that `impl Tool for …` in this file, in order.
fn implementors(source: &Source) -> Vec<&str> {
    let four = source.tokens.windows(4);
    four.filter_map(|four| match four {
        [Token::Word(verb), Token::Word(what), Token::Word(link), Token::Word(name)]
            if verb == "impl" && what == "Tool" && link == "for" =>
        {
            Some(&**name)
        }
        _ => None,
    })
    .collect()
}

/// The text behind the first `name:`, which is the specification's.
fn spec_name(source: &Source) -> Option<&str> {
    source.tokens.windows(3).find_map(|three| match three {
        [Token::Word(field), Token::Mark(':'), Token::Text(name)] if field == "name" => Some(&**name),
        _ => None,
    })
}

/// The entries of `ALL`: the paths behind an `&` between its brackets.
fn listed_tools(source: &Source) -> BTreeSet<String> {
    let tokens = source.tokens.iter();
    let mut behind = tokens.skip_while(|token| **token != Token::Word("ALL".to_owned()));
    behind.find(|token| **token == Token::Mark('='));
    let list: Vec<&Token> = behind.take_while(|token| **token != Token::Mark(';')).collect();
    let entries = list.split(|token| matches!(token, Token::Mark('&' | '[' | ',' | ']')));
    entries
        .map(|entry| {
            let words = entry.iter().map(|token| match token {
                Token::Word(word) => word.as_str(),
                _ => "::",
            });
            words.collect::<String>()
        })
        .filter(|entry| !entry.is_empty())
        .collect()
}

#[test]
fn the_repository_is_tidy() {
    let files = load(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(files.keys().filter(|name| name.starts_with("src/")).count() > 10, "the sources were not found");
    let faults = faults(&files);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
