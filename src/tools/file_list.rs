//! `file_list`: what is in a directory inside the target's roots, or one file's metadata. Never follows a link it
//! finds, never leaves the filesystem it started on, never uses sudo.

pub(super) mod listing;
#[cfg(test)]
mod tests;

use std::{fmt::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use listing::{Entry, Listing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{Host, arguments, data, schema_of, script, within},
    paths,
};
use crate::model::{Content, Effect, Operation, RawOutput, Risk, Scope, Script, Step, Template};

/// The tool.
pub(super) struct FileList;

/// The most entries on a page with checksums.
const MOST_CHECKSUMS: u32 = 100;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// Absolute; without it: the roots
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// 1 to 3
    #[serde(default = "depth")]
    depth: u32,
    /// SHA-256 of files up to 16 MiB
    #[serde(default)]
    checksum: bool,
    /// 1 to 1000
    #[serde(default = "limit")]
    limit: u32,
    /// next_cursor of the page before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

fn depth() -> u32 {
    1
}

fn limit() -> u32 {
    200
}

/// One page of entries, sorted by path.
#[derive(Serialize, JsonSchema)]
struct Data {
    /// The directory or file that was asked for; none: the roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    entries: Vec<Entry>,
}

/// Arguments: PATH DEPTH CHECKSUM LIMIT CURSOR ROOT…; an empty PATH means all roots. CURSOR is the record after which
/// the page starts, for `printf %b`.
///
/// A record ends with NUL; its first byte says what it is. `0` comes first: `0!` (start), `0s STATUS` (find's exit
/// status), `0t` (too many entries, some are left out), `0m NNN REASON` (root NNN cannot be listed),
/// `0x` (the checksums broke off). `1NNN` is an
/// entry of root NNN: its path, `//` (which no path has), its facts separated by tabs, the link's text, a tab, and
/// the checksum or the reason why there is none. The cursor is the record of an entry with `~` for facts, sorted in
/// and cut off with all before it.
///
/// With checksums all records of a page go to one inner shell as arguments, 100 of at most 5.2 KiB each; it opens
/// each file the way `file_read` does. Without, the page is cut to what base64 lets through the gateway's cap.
const TEMPLATE: Template = Template {
    id: "file_list.v1",
    body: concat!(
        paths::walk!(),
        "\nsums='exec 2>/dev/null",
        paths::held!(),
        r#"
at=$1 single=$2 left=67108864; shift 2
for record do
    sum=
    path=${record#????}; path=${path%%//*}
    case ${record#????"$path"//} in f*)
        if held "$at" "${path:-$single}"; then
            set -- $facts
            if [ "$1" != 1 ]; then sum=hard_link
            elif [ "$2" -gt 16777216 ] || [ "$2" -gt "$left" ]; then sum=too_large
            else
                left=$((left - $2)) sum=$(head -c "$2" <&3 | sha256sum) && sum=${sum%% *} || sum=unreadable
            fi
        else sum=unreadable
        fi;;
    esac
    printf "%s%s\0" "$record" "$sum"
done'
entries() {
    find "$2" -xdev -ignore_readdir_race -mindepth "$3" -maxdepth "$4" \
        -printf "1$1%P//%y\t%s\t%T@\t%m\t%u\t%g\t%n\t%l\t\0" || status=1
}
listing() {
    status=0
    if [ "$path" ]; then
        if [ "$name" ]; then entries 000 "./$name" 0 0; else entries 000 . 1 "$depth"; fi
    else
        number=0
        for start in "$@"; do
            id=$(printf %03d "$number") number=$((number + 1))
            if walk "$start" "$start"; then entries "$id" . 0 "$depth"; else printf '0m %s %s\0' "$id" "$why"; fi
        done
    fi
    printf '0s %s\0' "$status"
}
path=$1 depth=$2 checksum=$3 limit=$4 cursor=$5; shift 5
[ ! "$path" ] || walk "$path" "$@" || { missing file "$why"; return; }
[ ! "$path" ] || [ "$name" ] || [ -r . ] || { missing file denied; return; }
page() {
    { listing "$@" | sed -z '100001{s/.*/0t/;q}'; printf "%b\0" "$cursor"; } | sort -z |
        sed -z -e '/^0[smt]/b' -e '0,/^0!$\|\/\/~$/d' | head -z -n "$((limit + 1 + $# + 2))"
}
section entries
if [ "$checksum" = 1 ]; then
    { page "$@" | xargs -0 -r -s 1500000 sh -c "$sums" sh "$at" "$name" || printf '0x\0'; } | base64 -w 0
else page "$@" | head -c 700000 | base64 -w 0
fi && section end
"#
    ),
    stdin: false,
};

const SPEC: Spec = Spec {
    name: "file_list",
    title: "List files",
    help: "Lists a directory inside the target's file roots, or one file's metadata. Without path it lists the roots: start there. Entries: type, size, mtime, mode, owner, link.",
    scopes: &[Scope::FileRead],
    risk: Risk::Moderate,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Args {
    fn check(&self) -> Result<(), ToolError> {
        if let Some(path) = &self.path {
            paths::plain_path("path", path)?;
        } else if self.checksum {
            return Err(ToolError::invalid("checksum", "needs `path`: the directory or file"));
        }
        within("depth", self.depth, 1..=3)?;
        within("limit", self.limit, 1..=1000)
    }

    /// The most entries on this page.
    fn most(&self) -> u32 {
        if self.checksum { self.limit.min(MOST_CHECKSUMS) } else { self.limit }
    }

    fn script(&self, roots: Vec<String>) -> Result<Script, ToolError> {
        let cursor = match &self.cursor {
            None => "0!".to_owned(),
            Some(cursor) => {
                let place = place(cursor)
                    .ok_or_else(|| ToolError::invalid("cursor", "must be the next_cursor of a page of this listing"))?;
                format!("1{}//~", escaped(&place))
            }
        };
        let own = [
            self.path.clone().unwrap_or_default(),
            self.depth.to_string(),
            u8::from(self.checksum).to_string(),
            self.most().to_string(),
            cursor,
        ];
        let mut script = Script::new(&TEMPLATE, own.into_iter().chain(roots));
        // Bounds the wait for a FIFO that takes the place of a file whose checksum is made, and endless directories.
        script.limit = Some(Duration::from_secs(30));
        Ok(script)
    }
}

/// The place a cursor stands for: the root's number in three digits and the path below it, in bytes.
fn place(cursor: &str) -> Option<Vec<u8>> {
    let place = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let digits = place.get(..3)?.iter().all(u8::is_ascii_digit);
    let path = place.get(3..)?;
    let plain = path.len() <= 4096 && !path.contains(&0) && !path.windows(2).any(|pair| pair == b"//");
    (digits && plain).then_some(place)
}

/// `bytes` as `printf %b` reads them.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\0{byte:03o}");
        }
        text
    })
}

impl Tool for FileList {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        args.check()?;
        let target = Host::find(context, &args.target)?;
        if let Some(path) = &args.path {
            paths::under_roots("path", path, &paths::roots(&target)?)?;
        }
        let roots = paths::reach(context, &target)?;
        let places = args.path.iter().chain(&roots).cloned().collect();
        let script = args.script(roots)?;
        let operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        Ok(Operation { places, ..operation })
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let records = paths::section(script(raw, 0)?, "entries")?;
        let records = STANDARD.decode(records).map_err(|_| ToolError::unreadable("entries are not base64"))?;
        // Without a path the places are the roots that were listed, in their order.
        let listing = Listing::read(&records, args.path.as_deref(), &raw.operation.places, args.most() as usize)?;
        let mut warnings = Vec::new();
        if listing.lossy {
            warnings.push("some names or links are not UTF-8; their odd bytes are shown as U+FFFD".to_owned());
        }
        if args.most() < args.limit && listing.next.is_some() {
            warnings.push(format!("with checksum a page has at most {MOST_CHECKSUMS} entries"));
        }
        Ok(Content {
            partial: listing.partial,
            warnings,
            truncated: listing.next.is_some(),
            next_cursor: listing.next.map(|place| URL_SAFE_NO_PAD.encode(place)),
            ..Content::new(data(&Data { path: args.path, entries: listing.entries })?)
        })
    }
}
