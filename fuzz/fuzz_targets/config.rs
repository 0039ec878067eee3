//! The configuration loader: every text loads or has problems with a place in the text.
#![no_main]

use std::{path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use tailops::{config, tools};

static TOOLS: LazyLock<Vec<&str>> = LazyLock::new(|| tools::ALL.iter().map(|tool| tool.spec().name).collect());

fuzz_target!(|text: &str| {
    match config::load(Path::new("tailops.toml"), text, &TOOLS) {
        Ok(config) => {
            for target in &config.targets {
                let owned = config.engagements.iter().any(|engagement| engagement.id == target.engagement);
                assert!(owned, "the target {:?} belongs to nobody", target.id);
            }
        }
        Err(problems) => {
            assert!(problems.count() > 0, "it fails without a problem");
            assert!(!problems.to_string().is_empty());
            let lines = text.split('\n').count();
            assert!(problems.iter().all(|problem| (1..=lines).contains(&problem.line)), "{problems}");
        }
    }
});
