//! `[tls]`: whether HTTP is wrapped in TLS, and with which certificate. Reads no file.

use std::path::PathBuf;

use super::{section::Section, settings::plain_file};

/// Where the certificate comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Plain HTTP: only on addresses of the tailnet, which WireGuard encrypts, and on loopback.
    #[default]
    Off,
    /// The node's own certificate for its MagicDNS name.
    Node,
    /// Files in PEM form. Absolute paths.
    Files {
        /// The chain, the leaf first.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// The section; `mode` is `node.mode`.
pub(super) fn tls(root: &mut Section<'_>, mode: &str) -> Tls {
    let mut section = root.section("tls");
    let from = [("off", From::Off), ("node", From::Node), ("files", From::Files)];
    let from = section.value("certificate_from").and_then(|value| value.choice(&from)).unwrap_or(From::Off);
    if from == From::Node && mode == "loopback" {
        section.refuse("certificate_from", "\"node\" needs a tailnet; node.mode loopback has none: use \"files\"");
    }
    let mut file = |key: &'static str, example: &str| {
        let value = if from == From::Files { section.required(key, example) } else { section.value(key) }?;
        if from != From::Files {
            value.refuse("has no meaning unless tls.certificate_from is \"files\"");
        }
        let text = value.text("an absolute path")?;
        let path = plain_file(text);
        if path.is_none() {
            value.refuse(format_args!("{text:?} must be an absolute path in plain form, such as {example}"));
        }
        path
    };
    let certificate = file("certificate_file", "\"/etc/tailops/tls/chain.pem\"");
    let key = file("key_file", "\"/etc/tailops/tls/key.pem\"");
    section.finish();
    match (from, certificate, key) {
        (From::Node, _, _) => Tls::Node,
        (From::Files, Some(certificate), Some(key)) => Tls::Files { certificate, key },
        // Without both files the configuration is refused already.
        (From::Off | From::Files, _, _) => Tls::Off,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Off,
    Node,
    Files,
}
