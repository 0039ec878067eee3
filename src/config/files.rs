//! `[files]`: what may be written into files on targets; and each engagement's own directory, which no other may see.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Config, Engagement,
    section::{Section, Value},
    settings::add_new,
};
use crate::model::{EngagementId, Target, TargetId, TargetKind};

/// The longest content a written file may have, at most, in bytes.
const MOST_BYTES: u64 = 10_000_000;

/// Types that may be written unless the configuration says otherwise.
const MIME: [&str; 12] = [
    "text/*",
    "image/*",
    "application/json",
    "application/xml",
    "application/x-sh",
    "application/x-sql",
    "application/x-x509-ca-cert",
    "application/pdf",
    "application/gzip",
    "application/zip",
    "application/x-xz",
    "application/zstd",
];

/// What may be written into files on targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The longest content, in bytes.
    pub max_bytes: usize,
    /// The media types that may be written, lower case: `type/subtype` or `type/*`.
    pub mime: Vec<String>,
}

impl Default for Files {
    fn default() -> Self {
        Self { max_bytes: 10_000_000, mime: MIME.map(str::to_owned).into() }
    }
}

impl Files {
    /// Whether a file of the media type `mime` may be written.
    pub fn allows(&self, mime: &str) -> bool {
        self.mime.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(family) => mime.starts_with(family),
            None => allowed == mime,
        })
    }
}

/// `[files]`.
pub(super) fn read(root: &mut Section<'_>) -> Files {
    let mut section = root.section("files");
    let default = Files::default();
    let bytes = section.size("max_bytes", MOST_BYTES, 1..=MOST_BYTES);
    let mime = section.value("mime").map_or(default.mime, |value| types(&value));
    section.finish();
    Files { max_bytes: usize::try_from(bytes).unwrap_or(default.max_bytes), mime }
}

fn types(value: &Value<'_>) -> Vec<String> {
    let mut types = Vec::new();
    for item in value.items("media types").unwrap_or_default() {
        match item.text("a media type such as text/plain") {
            Some(text) if is_type(text) => add_new(&mut types, text.to_owned(), &item),
            Some(text) => item
                .refuse(format_args!("{text:?} is no media type in lower case, such as \"text/plain\" or \"text/*\"")),
            None => {}
        }
    }
    types
}

fn is_type(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.+_".contains(&byte))
    };
    text.split_once('/').is_some_and(|(family, kind)| plain(family) && (kind == "*" || plain(kind)))
}

/// Whether one of the two lies in the other.
fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Reports the data roots that share something with that of an earlier engagement. `places` are where they stand.
pub(super) fn check_apart(engagements: &[Engagement], places: &[Option<Value<'_>>]) {
    for (index, (engagement, place)) in engagements.iter().zip(places).enumerate() {
        let (Some(own), Some(place)) = (&engagement.data_root, place) else { continue };
        for other in engagements.iter().take(index) {
            if other.data_root.as_deref().is_some_and(|other| overlap(own, other)) {
                place.refuse(format_args!("must be apart from the data_root of engagement {}", other.id));
            }
        }
    }
}

/// Gives a local target of `owner` its engagement's data root, and reports `roots` that share something with another's.
pub(super) fn own_root(
    section: &Section<'_>,
    roots: &mut Vec<PathBuf>,
    owner: Option<&EngagementId>,
    engagements: &[Engagement],
) {
    for engagement in engagements {
        let Some(data_root) = &engagement.data_root else { continue };
        if Some(&engagement.id) == owner {
            if !roots.iter().any(|root| data_root.starts_with(root)) {
                roots.push(data_root.clone());
            }
        } else if let Some(root) = roots.iter().find(|root| overlap(root, data_root)) {
            let root = root.display().to_string();
            section.refuse(
                "roots",
                format_args!("{root:?} shares files with the data_root of engagement {}", engagement.id),
            );
        }
    }
}

/// The first of `roots` that shares something with the service's own state, but for `files` in it: who can write there
/// can make tokens.
fn over_state<'a>(roots: &'a [PathBuf], data_dir: &Path) -> Option<&'a Path> {
    let free = data_dir.join("files");
    roots.iter().find(|root| overlap(root, data_dir) && !root.starts_with(&free)).map(PathBuf::as_path)
}

/// Reports `roots` of a local target that hold the service's own state.
pub(super) fn check_state(section: &Section<'_>, roots: &[PathBuf], data_dir: &Path) {
    if let Some(root) = over_state(roots, data_dir) {
        let root = root.display().to_string();
        section.refuse("roots", format_args!("{root:?} shares files with data_dir, where the service keeps its keys"));
    }
}

/// A registered target whose roots lead where they must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("target {target}: its root {root:?} shares files with {what}")]
pub struct RootFault {
    target: TargetId,
    root: String,
    what: String,
}

/// The directories of this machine that are somebody's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Places {
    /// Where the service keeps its state.
    data_dir: PathBuf,
    /// The data root of each engagement that has one.
    data_roots: BTreeMap<EngagementId, PathBuf>,
}

impl Places {
    /// Makes a registered target one of this configuration's, as if it stood in it: a local one gets the data root of
    /// its engagement. Errors where one of its roots shares files with the service's own state or with the data root
    /// of another engagement.
    pub fn adopt(&self, target: &mut Target) -> Result<(), RootFault> {
        if target.kind != TargetKind::Local {
            return Ok(());
        }
        let fault = |root: &Path, what: String| {
            Err(RootFault { target: target.id.clone(), root: root.display().to_string(), what })
        };
        if let Some(root) = over_state(&target.roots, &self.data_dir) {
            return fault(root, "data_dir, where the service keeps its keys".to_owned());
        }
        for (id, data_root) in self.data_roots.iter().filter(|(id, _)| **id != target.engagement) {
            if let Some(root) = target.roots.iter().find(|root| overlap(root, data_root)) {
                return fault(root, format!("the data_root of engagement {id}"));
            }
        }
        if let Some(data_root) = self.data_roots.get(&target.engagement)
            && !target.roots.iter().any(|root| data_root.starts_with(root))
        {
            target.roots.push(data_root.clone());
        }
        Ok(())
    }
}

impl Config {
    /// Whose the directories are.
    pub fn places(&self) -> Places {
        let own = |engagement: &Engagement| Some((engagement.id.clone(), engagement.data_root.clone()?));
        Places { data_dir: self.data_dir.clone(), data_roots: self.engagements.iter().filter_map(own).collect() }
    }

    /// A file root of this machine that shares files with the service's own state. There is none in what [`super::load`]
    /// gives; ask again where `data_dir` was replaced afterwards.
    pub fn root_over_state(&self) -> Option<&Path> {
        let local = self.targets.iter().filter(|target| target.kind == TargetKind::Local);
        local.into_iter().find_map(|target| over_state(&target.roots, &self.data_dir))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::load, *};

    fn problem(text: &str) -> String {
        let problems = load(Path::new("tailops.toml"), text, &[]).expect_err(text);
        assert_eq!(problems.count(), 1, "{problems}");
        problems.to_string()
    }

    const TWO: &str = "[engagements.a]\ndata_root = \"/srv/a\"\n[engagements.b]\ndata_root = \"/srv/b\"\n";
    const TARGET: &str = "capabilities = []\nkind = \"local\"\n";

    #[test]
    fn p78_data_roots_of_two_engagements_are_apart() {
        for (one, other) in [("/srv/a", "/srv/a"), ("/srv/a", "/srv/a/b"), ("/srv/a/b", "/srv/a")] {
            let text = format!("[engagements.a]\ndata_root = \"{one}\"\n[engagements.b]\ndata_root = \"{other}\"\n");
            assert!(
                problem(&text).contains("engagements.b.data_root: must be apart from the data_root of engagement a")
            );
        }
        for bad in ["/", "srv", "/srv/../etc", "/proc/1", "/srv/"] {
            assert!(problem(&format!("[engagements.a]\ndata_root = \"{bad}\"")).contains("engagements.a.data_root: "));
        }
        assert!(
            load(
                Path::new("t"),
                "[engagements.a]\ndata_root = \"/srv/a\"\n[engagements.b]\ndata_root = \"/srv/ab\"\n",
                &[]
            )
            .is_ok()
        );
    }

    #[test]
    fn p78_a_registered_target_gets_its_own_data_root_and_reaches_no_other() {
        let config = load(Path::new("t"), &format!("data_dir = \"/var/lib/tailops\"\n{TWO}"), &[]).unwrap();
        let registered = |kind: &str, root: &str| {
            let text = format!(
                "version: \"1.0\"\ntargets:\n  x: {{type: {kind}, executor: {kind}, capabilities: [], constraints: {{roots: [\"{root}\"]}}}}\n"
            );
            let home = EngagementId::from("a");
            crate::config::read_registry(Path::new("t.yaml"), &text, &home, &config.engagement_ids()).unwrap().remove(0)
        };
        for root in ["/srv", "/srv/b", "/srv/b/c", "/var/lib", "/var/lib/tailops", "/var/lib/tailops/keys"] {
            let fault = config.places().adopt(&mut registered("local", root)).expect_err(root).to_string();
            assert!(fault.starts_with(&format!("target x: its root {root:?} shares files with")), "{fault}");
        }
        let mut own = registered("local", "/var/log");
        config.places().adopt(&mut own).unwrap();
        assert_eq!(own.roots, [Path::new("/var/log"), Path::new("/srv/a")]);
        let mut inside = registered("local", "/srv/a");
        config.places().adopt(&mut inside).unwrap();
        assert_eq!(inside.roots, [Path::new("/srv/a")]);
    }

    #[test]
    fn p78_no_target_of_another_engagement_has_a_root_that_shares_files_with_a_data_root() {
        for root in ["/srv", "/srv/b", "/srv/b/c"] {
            let text = format!("{TWO}[targets.x]\nengagement = \"a\"\nroots = [\"{root}\"]\n{TARGET}");
            assert!(problem(&text).contains("targets.x.roots: "), "{root}");
        }
    }

    #[test]
    fn no_root_holds_the_keys_of_the_service() {
        for root in ["/var", "/var/lib/tailops", "/var/lib/tailops/keys", "/var/lib/tailops/filesystem"] {
            let text = format!("[engagements.a]\n[targets.x]\nengagement = \"a\"\nroots = [\"{root}\"]\n{TARGET}");
            assert!(problem(&text).contains("targets.x.roots: ") && problem(&text).contains("data_dir"), "{root}");
        }
        let text = format!("[engagements.a]\ndata_root = \"/var/lib\"\n[targets.x]\nengagement = \"a\"\n{TARGET}");
        assert!(problem(&text).contains("targets.x.roots: "));
        for root in ["/var/log", "/var/lib/tailops/files", "/var/lib/tailops-other"] {
            let text = format!("[engagements.a]\n[targets.x]\nengagement = \"a\"\nroots = [\"{root}\"]\n{TARGET}");
            let mut config = load(Path::new("t"), &text, &[]).unwrap();
            assert_eq!(config.root_over_state(), None, "{root}");
            config.data_dir = PathBuf::from(root).join("state");
            assert_eq!(config.root_over_state(), Some(Path::new(root)));
        }
    }

    #[test]
    fn p78_a_local_target_has_its_engagements_data_root_and_no_others() {
        let text = format!(
            "{TWO}[targets.x]\nengagement = \"a\"\nroots = [\"/var/log\"]\n{TARGET}[targets.y]\nengagement = \"b\"\n{TARGET}"
        );
        let config = load(Path::new("tailops.toml"), &text, &[]).unwrap();
        assert_eq!(config.targets[0].roots, [PathBuf::from("/var/log"), PathBuf::from("/srv/a")]);
        assert_eq!(config.targets[1].roots, [PathBuf::from("/srv/b")]);
    }

    #[test]
    fn p76_the_limit_on_content_can_only_be_lowered() {
        let limit = |text: &str| load(Path::new("t"), text, &[]).map(|config| config.files.max_bytes);
        assert_eq!(limit("").unwrap(), 10_000_000);
        assert_eq!(limit("files.max_bytes = \"1 MB\"").unwrap(), 1_000_000);
        assert!(problem("files.max_bytes = 10000001").contains("files.max_bytes: must be from 1 B to 10 MB"));
        assert!(problem("files.max_bytes = 0").contains("files.max_bytes: "));
    }

    #[test]
    fn p75_the_list_of_types_is_read_exactly() {
        for bad in ["text", "*/*", "*", "Text/plain", "text/", "/plain", "text/plain; charset=utf-8", "te*t/plain"] {
            assert!(problem(&format!("files.mime = [\"{bad}\"]")).contains("files.mime[0]: "), "{bad}");
        }
        let files = load(Path::new("t"), "files.mime = [\"text/*\", \"application/json\"]", &[]).unwrap().files;
        assert!(files.allows("text/plain") && files.allows("application/json"));
        assert!(!files.allows("application/pdf") && !files.allows("texts/plain") && !files.allows("application/json5"));
    }
}
