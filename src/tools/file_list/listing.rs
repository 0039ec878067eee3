//! Reads the records that the script of `file_list` writes. Trusts nothing in them but their frame: names and link
//! texts are whatever someone on the target chose.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{model::Missing, tools::ToolError};

/// One file, directory or other thing.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::tools) struct Entry {
    /// Below the directory that was asked for; absolute where the roots are listed.
    path: String,
    r#type: Type,
    /// In bytes.
    size: u64,
    /// Last change of the content, RFC 3339, UTC.
    mtime: String,
    /// Permission bits, octal.
    mode: String,
    owner: String,
    group: String,
    /// What a symbolic link says.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// How many hard links there are.
    links: u64,
    /// Of the content, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Why there is no `sha256`: hard_link, too_large or unreadable.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_sha256: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Type {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    Device,
}

/// One page.
#[derive(Debug, Default)]
pub(in crate::tools) struct Listing {
    pub(in crate::tools) entries: Vec<Entry>,
    pub(in crate::tools) partial: Vec<Missing>,
    /// Whether some text was not UTF-8.
    pub(in crate::tools) lossy: bool,
    /// The last place on this page, where there are more.
    pub(in crate::tools) next: Option<Vec<u8>>,
}

impl Listing {
    /// The page in `records`, at most `most` entries. `asked` is the path that was asked for; without one the
    /// entries are below `roots`. Errors if a record cannot be read or the one that ends every listing is not there.
    pub(in crate::tools) fn read(
        records: &[u8],
        asked: Option<&str>,
        roots: &[String],
        most: usize,
    ) -> Result<Self, ToolError> {
        let mut listing = Self::default();
        let mut ended = false;
        let mut last = None;
        for record in records.split_inclusive(|byte| *byte == 0) {
            // Only the last one can be cut: by the cap on the page.
            let Some(record) = record.strip_suffix(b"\0") else {
                listing.next = last;
                break;
            };
            match record.split_first() {
                Some((b'0', note)) => ended |= listing.note(note, roots)?,
                Some((b'1', _)) if listing.entries.len() == most => {
                    listing.next = last;
                    break;
                }
                Some((b'1', entry)) => last = Some(listing.entry(entry, asked, roots).ok_or_else(unreadable)?),
                _ => return Err(unreadable()),
            }
        }
        if ended { Ok(listing) } else { Err(ToolError::unreadable("the listing did not come to its end")) }
    }

    /// Takes a record that is not an entry; whether it is one that ends a listing.
    fn note(&mut self, note: &[u8], roots: &[String]) -> Result<bool, ToolError> {
        let note = std::str::from_utf8(note).map_err(|_| unreadable())?;
        let words: Vec<&str> = note.split(' ').collect();
        let (section, reason, ends) = match words.as_slice() {
            ["s", "0"] => return Ok(true),
            ["s", "124"] => ("entries", "time_limit", true),
            ["s", _] => ("entries", "permission_denied", true),
            ["t"] => ("entries", "more_than_100000", true),
            ["m", root, why] => {
                let root = root.parse().ok().and_then(|number: usize| roots.get(number)).ok_or_else(unreadable)?;
                let reason = match *why {
                    "outside" => "symlink",
                    "denied" => "permission_denied",
                    why => why,
                };
                (root.as_str(), reason, false)
            }
            _ => return Err(unreadable()),
        };
        self.partial.push(Missing { section: section.into(), reason: reason.into() });
        Ok(ends)
    }

    /// Takes an entry; its place.
    fn entry(&mut self, record: &[u8], asked: Option<&str>, roots: &[String]) -> Option<Vec<u8>> {
        let middle = record.windows(2).position(|pair| pair == b"//")?;
        let (place, facts) = (record.get(..middle)?, record.get(middle + 2..)?);
        let root: usize = std::str::from_utf8(place.get(..3)?).ok()?.parse().ok()?;
        let below = self.text(place.get(3..)?);
        let path = match (asked, below.is_empty()) {
            (Some(_), false) => below,
            (Some(file), true) => file.rsplit('/').next()?.to_owned(),
            (None, true) => roots.get(root)?.clone(),
            (None, false) => format!("{}/{below}", roots.get(root)?.trim_end_matches('/')),
        };
        // The link's text may have tabs; the checksum after it has none.
        let mut fields = facts.splitn(8, |byte| *byte == b'\t');
        let mut field = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
        let r#type = Type::of(field()?)?;
        let size = field()?.parse().ok()?;
        let mtime = time(field()?)?;
        let mode = format!("{:0>4}", field()?);
        let (owner, group) = (field()?.to_owned(), field()?.to_owned());
        let links = field()?.parse().ok()?;
        let rest = fields.next()?;
        let tab = rest.iter().rposition(|byte| *byte == b'\t')?;
        let link = (r#type == Type::Symlink).then(|| self.text(rest.get(..tab).unwrap_or_default()));
        let sum = std::str::from_utf8(rest.get(tab + 1..)?).ok().filter(|sum| !sum.is_empty()).map(str::to_owned);
        let (sha256, no_sha256) = match sum {
            Some(sum) if sum.len() == 64 => (Some(sum), None),
            reason => (None, reason),
        };
        self.entries.push(Entry { path, r#type, size, mtime, mode, owner, group, link, links, sha256, no_sha256 });
        Some(place.to_vec())
    }

    fn text(&mut self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        self.lossy |= matches!(text, std::borrow::Cow::Owned(_));
        text.into_owned()
    }
}

fn unreadable() -> ToolError {
    ToolError::unreadable("an entry of the listing")
}

/// Seconds since 1970 with a fraction, as find's `%T@` writes them, in RFC 3339 to the second.
fn time(seconds: &str) -> Option<String> {
    let whole = seconds.split('.').next()?.parse().ok()?;
    Some(Timestamp::from_second(whole).ok()?.to_string())
}

impl Type {
    /// Of find's `%y`.
    fn of(letter: &str) -> Option<Self> {
        Some(match letter {
            "f" => Self::File,
            "d" => Self::Dir,
            "l" => Self::Symlink,
            "p" => Self::Fifo,
            "s" => Self::Socket,
            "b" | "c" => Self::Device,
            _ => return None,
        })
    }
}
