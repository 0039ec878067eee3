//! What a content is, by its own bytes, and whether that is what its name and its sender say. Looks at the start of the
//! content; never runs, unpacks or renders anything.

use std::path::Path;

use mime_guess::Mime;

use super::ToolError;
use crate::config::Files;

const PLAIN: &str = "text/plain";
const SCRIPT: &str = "text/x-shellscript";
const UNKNOWN: &str = "application/octet-stream";

/// Formats that `infer` counts among programs and that are none.
const NO_PROGRAMS: [&str; 2] = ["application/x-x509-ca-cert", "application/x-qemu-disk"];

/// Types outside `text/` whose content is text.
const TEXTUAL: [&str; 21] = [
    "application/ecmascript",
    "application/graphql",
    "application/javascript",
    "application/json",
    "application/json5",
    "application/pgp-keys",
    "application/pgp-signature",
    "application/pkcs10",
    "application/sql",
    "application/toml",
    "application/x-csh",
    "application/x-httpd-php",
    "application/x-latex",
    "application/x-perl",
    "application/x-sh",
    "application/x-sql",
    "application/x-tcl",
    "application/x-x509-ca-cert",
    "application/x-yaml",
    "application/xml",
    "application/yaml",
];

/// Extensions of texts on servers for which the registry of types knows only something else.
const TEXT_EXTENSIONS: [&str; 5] = ["csr", "key", "mts", "pub", "ts"];

/// Extensions that a file may have whose first line names an interpreter.
const SCRIPT_EXTENSIONS: [&str; 16] =
    ["awk", "bash", "cgi", "dash", "js", "ksh", "lua", "mjs", "php", "pl", "py", "r", "rb", "sh", "tcl", "zsh"];

/// What a content's own bytes say.
struct Sniffed {
    mime: &'static str,
    extension: &'static str,
    /// It is text, of which many types are.
    text: bool,
}

/// The media type of `content`, to be written under `name`. Errors if it is a program, if it is not what the extension
/// or `declared` says, or if `files` does not allow it.
pub(super) fn judge(name: &str, content: &[u8], declared: Option<&str>, files: &Files) -> Result<String, ToolError> {
    let sniffed = sniff(content)?;
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    let named: Vec<Mime> =
        extension.as_deref().map(|known| mime_guess::from_ext(known).iter().collect()).unwrap_or_default();
    let mime = by_name(&sniffed, extension.as_deref(), &named).ok_or_else(|| {
        let extension = extension.as_deref().unwrap_or_default();
        ToolError::new(
            "type_mismatch",
            format!("`content`: is {}, which is not what the name's .{extension} says", sniffed.mime),
        )
        .hint("give the file a name whose extension fits what is in it")
    })?;
    if let Some(declared) = declared
        && !is_declared(declared, &mime, &sniffed, &named)
    {
        return Err(ToolError::new("type_mismatch", format!("`mime`: the content is {mime}, not {declared:?}"))
            .hint("leave `mime` out, or say what the content is"));
    }
    if files.allows(&mime) {
        return Ok(mime);
    }
    Err(ToolError::new("type_refused", format!("`content`: files of type {mime} are not written here")).hint(format!(
        "what may be written: {}; files.mime in the gateway's configuration says so",
        files.mime.join(", ")
    )))
}

fn sniff(content: &[u8]) -> Result<Sniffed, ToolError> {
    let text = !content.contains(&0) && std::str::from_utf8(content).is_ok();
    let found = infer::get(content);
    let program = content.starts_with(b"\x7fELF")
        || !text
            && found.is_some_and(|found| {
                found.matcher_type() == infer::MatcherType::App && !NO_PROGRAMS.contains(&found.mime_type())
            });
    if program {
        return Err(ToolError::new("type_refused", "`content`: is a program, and those are never written")
            .hint("programs come from packages: package_change"));
    }
    if text && content.starts_with(b"#!") {
        return Ok(Sniffed { mime: SCRIPT, extension: "sh", text });
    }
    // Two letters make a picture or a program for `infer`; in a text they are only letters.
    let found = found.filter(|found| {
        !text || found.matcher_type() == infer::MatcherType::Text || found.mime_type() == "application/pdf"
    });
    Ok(match found {
        Some(found) => Sniffed {
            mime: found.mime_type(),
            extension: found.extension(),
            text: text && found.mime_type() != "application/pdf",
        },
        None if text => Sniffed { mime: PLAIN, extension: "txt", text },
        None => Sniffed { mime: UNKNOWN, extension: "bin", text },
    })
}

/// The type of a content under a name with `extension`, which `named` are the types of; none if they do not fit.
fn by_name(sniffed: &Sniffed, extension: Option<&str>, named: &[Mime]) -> Option<String> {
    let extension = extension.unwrap_or_default();
    let own = || Some(sniffed.mime.to_owned());
    if sniffed.mime == SCRIPT {
        return if named.is_empty() || SCRIPT_EXTENSIONS.contains(&extension) { own() } else { None };
    }
    if named.is_empty() || (sniffed.text && TEXT_EXTENSIONS.contains(&extension)) {
        return own();
    }
    if sniffed.text {
        return named.iter().map(Mime::essence_str).find(|mime| is_textual(mime)).map(str::to_owned);
    }
    let same = |mime: &Mime| same_type(mime.essence_str(), sniffed.mime);
    if sniffed.extension == extension || named.iter().any(same) { own() } else { None }
}

fn is_declared(declared: &str, mime: &str, sniffed: &Sniffed, named: &[Mime]) -> bool {
    let declared = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if same_type(&declared, mime) || same_type(&declared, sniffed.mime) {
        return true;
    }
    let fits_name = named.is_empty() || named.iter().any(|mime| same_type(&declared, mime.essence_str()));
    sniffed.text && (declared == PLAIN || (is_textual(&declared) && fits_name))
}

/// Whether two names of types mean the same: some were registered without the `x-` they began with.
fn same_type(one: &str, other: &str) -> bool {
    one.replace("/x-", "/") == other.replace("/x-", "/")
}

fn is_textual(mime: &str) -> bool {
    mime.starts_with("text/") || mime.ends_with("+json") || mime.ends_with("+xml") || TEXTUAL.contains(&mime)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";

    fn code(name: &str, content: &[u8], declared: Option<&str>) -> &'static str {
        judge(name, content, declared, &Files::default()).expect_err(name).code
    }

    fn mime(name: &str, content: &[u8], declared: Option<&str>) -> String {
        judge(name, content, declared, &Files::default()).unwrap_or_else(|error| panic!("{name} {declared:?}: {error}"))
    }

    #[test]
    fn p75_programs_are_refused_whatever_they_are_called() {
        let elf = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 60]].concat();
        let everything = Files { mime: vec!["application/*".into(), "text/*".into()], ..Files::default() };
        let programs: [&[u8]; 7] = [
            &elf,
            b"\x7fELF",
            b"MZ\x90\0\x03\0\0\0",
            b"\0asm\x01\0\0\0",
            b"\xcf\xfa\xed\xfe\x07\0\0\x01",
            b"\xca\xfe\xba\xbe\0\0\0\x34\0",
            b"BC\xc0\xde\0",
        ];
        for program in programs {
            for name in ["a.txt", "a", "a.elf", "a.exe", "a.json", "a.png", "a.bin", ".hidden"] {
                let error = judge(name, program, None, &everything).unwrap_err();
                assert_eq!(error.code, "type_refused", "{name} {program:?}");
            }
        }
    }

    #[test]
    fn p75_a_content_that_is_not_what_its_name_says_is_refused() {
        let cases: [(&str, &[u8]); 12] = [
            ("a.txt", PNG),
            ("a.txt", GZIP),
            ("a.txt", b"#!/bin/sh\n"),
            ("a.json", b"#!/usr/bin/python3\n"),
            ("a.png", b"just text"),
            ("a.png", GZIP),
            ("a.pdf", b"just text"),
            ("a.txt", b"%PDF-1.7\n"),
            ("a.gz", PNG),
            ("a.txt", b"\xff\xfe\0binary"),
            ("a.log", b"nul\0nul"),
            ("a.zip", b"<html><body>"),
        ];
        for (name, content) in cases {
            assert_eq!(code(name, content, None), "type_mismatch", "{name} {content:?}");
        }
    }

    #[test]
    fn p75_a_content_that_is_not_what_was_declared_is_refused() {
        let cases: [(&str, &[u8], &str); 7] = [
            ("a.txt", b"text", "image/png"),
            ("a.txt", b"text", "application/octet-stream"),
            ("a.txt", b"text", "application/json"),
            ("a.png", PNG, "text/plain"),
            ("a.png", PNG, "image/jpeg"),
            ("a", GZIP, "text/plain"),
            ("a.json", b"{}", "text/html"),
        ];
        for (name, content, declared) in cases {
            assert_eq!(code(name, content, Some(declared)), "type_mismatch", "{name} {declared}");
        }
    }

    #[test]
    fn p75_only_types_on_the_list_are_written() {
        let files = Files { mime: vec!["application/json".into()], ..Files::default() };
        assert_eq!(judge("a.json", b"{}", None, &files).unwrap(), "application/json");
        for (name, content) in [("a.txt", b"text".as_slice()), ("a.png", PNG), ("a", b"{}")] {
            assert_eq!(judge(name, content, None, &files).unwrap_err().code, "type_refused", "{name}");
        }
        assert_eq!(code("a.bin", b"\x01\x02\0\x04", None), "type_refused");
        assert_eq!(code("a", b"\x01\x02\0\x04", None), "type_refused");
    }

    #[test]
    fn what_servers_keep_in_files_passes() {
        let texts = [
            "nginx.conf",
            "hosts",
            ".bashrc",
            "a.service",
            "a.yaml",
            "a.yml",
            "a.toml",
            "a.ini",
            "a.json",
            "a.xml",
            "a.md",
            "a.sh",
            "a.py",
            "a.sql",
            "a.csv",
            "a.html",
            "a.css",
            "a.js",
            "a.ts",
            "a.pem",
            "a.crt",
            "a.key",
            "id.pub",
            "a.log",
            "a.env",
            "a.cnf",
            "a.list",
            "a.rules",
            "authorized_keys",
            "Dockerfile",
            "a.svg",
            "a.tmpl",
        ];
        for name in texts {
            mime(name, b"BM or MZ, BC: only letters\n", None);
            mime(name, b"", None);
        }
        for name in ["run", "run.sh", "run.py", "run.unknown"] {
            assert_eq!(mime(name, b"#!/bin/sh\n", None), SCRIPT);
        }
        assert_eq!(mime("README.md", b"<!-- a note -->\n", None), "text/markdown");
        assert_eq!(mime("a.png", PNG, Some("image/png")), "image/png");
        assert_eq!(mime("a.tar.gz", GZIP, Some("application/gzip")), "application/gzip");
        assert_eq!(mime("a.json", b"{}", Some("application/json; charset=utf-8")), "application/json");
        assert_eq!(mime("a.json", b"{}", Some("text/plain")), "application/json");
        assert_eq!(mime("a", b"{}", Some("application/json")), "text/plain");
    }
}
