//! A build without the embedded node: it refuses to be one, and says what to do.

use std::{fs, process::Command};

const BINARY: &str = env!("CARGO_BIN_EXE_tailops");

#[test]
fn embedded_mode_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tailops.toml");
    let data = directory.path().canonicalize().unwrap().join("data");
    let text = format!("data_dir = {:?}\n[node]\nmode = \"embedded\"\n[engagements.default]\n", data.to_str().unwrap());
    fs::write(&file, text).unwrap();
    let serve = ["serve", "--config", file.to_str().unwrap()];
    for arguments in [&serve[..], &["node"]] {
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        for hint in ["--features embedded", "Go 1.26.5", "node.mode = \"host\""] {
            assert!(said.contains(hint), "{arguments:?}: {said}");
        }
    }
    assert!(!data.join("node").exists());
}
