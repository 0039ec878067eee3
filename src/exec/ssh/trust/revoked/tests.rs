//! What a list of revoked keys may look like, and that nothing else is taken for one.

use proptest::prelude::*;

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
const PRINT: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

fn why(text: &str) -> String {
    RevokedKeys::read(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_list_holds_keys_fingerprints_numbers_and_ids() {
    let text =
        format!("# fired\n\n  {KEY} root@web\r\n{PRINT}\nserial: {PRINT} 5\nserial:{PRINT}  8-9\nkey-id: {PRINT} a b ");
    let list = RevokedKeys::read(text.as_bytes()).unwrap();
    let of_key = PublicKey::from_openssh(KEY).unwrap().fingerprint(HashAlg::Sha256).to_string();
    assert!(list.has_key(&of_key) && list.has_key(PRINT));
    assert_eq!(list.serials, [(PRINT.to_owned(), 5, 5), (PRINT.to_owned(), 8, 9)]);
    assert_eq!(list.ids, HashSet::from([(PRINT.to_owned(), "a b".to_owned())]));
    assert_eq!(RevokedKeys::read(b"").unwrap(), RevokedKeys::default());
}

#[test]
fn what_cannot_be_understood_is_refused_with_its_line() {
    for line in [
        "what",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        &KEY[..60],
        &PRINT[..40],
        "MD5:d4:1d:8c:d9:8f:00:b2:04:e9:80:09:98:ec:f8:42:7e",
        "serial: 5",
        "serial:",
        "key-id: web-1",
        &format!("serial: {PRINT} five"),
        &format!("serial: {PRINT} +5"),
        &format!("serial: {PRINT} 9-5"),
        &format!("serial: {PRINT} 5-"),
        &format!("serial: {PRINT} 99999999999999999999"),
        &format!("Serial: {PRINT} 5"),
        &format!("{PRINT} extra"),
        &format!("@revoked {KEY}"),
    ] {
        let why = why(&format!("# one\n{line}\n"));
        assert!(why.starts_with("line 2: "), "{line:?}: {why}");
    }
    assert!(RevokedKeys::read(b"\xff\xfe").unwrap_err().to_string().contains("UTF-8"));
    assert_eq!(RevokedKeys::read(b"SSHKRL\n\0\0\0\0\x01"), Err(NotAList::Binary));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Err(NotAList::Line { line, .. }) = RevokedKeys::read(&bytes) {
            prop_assert!((1..=bytes.iter().filter(|byte| **byte == b'\n').count() + 1).contains(&line));
        }
    }

    /// A list that was cut short is not read as a shorter one, or has lost whole lines at its end.
    #[test]
    fn a_list_that_was_cut_within_a_fingerprint_is_refused(cut in 1_usize..49) {
        let text = format!("{KEY}\n{PRINT}");
        let left = &text[..text.len() - cut];
        let whole_line = left.ends_with('\n');
        prop_assert_eq!(RevokedKeys::read(left.as_bytes()).is_ok(), whole_line);
    }
}
