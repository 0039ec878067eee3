//! Makes one list of checks into tests over every way to be on the tailnet. There is one gateway for each way, which the
//! tests use in turn; a test that fails takes it along, and the next starts another.

use std::sync::{Mutex, PoisonError};

use crate::{
    lab::turn,
    site::{Site, Way},
};

static IDLE: Mutex<Vec<Site>> = Mutex::new(Vec::new());

/// Runs one check in its turn.
pub fn over(way: Way, check: fn(&Site)) {
    let Some(lab) = turn() else { return };
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let found = idle.iter().position(|site| site.way == way).map(|place| idle.remove(place));
    drop(idle);
    let mut site = found.unwrap_or_else(|| Site::open(lab.lab, way));
    site.begin();
    check(&site);
    site.end();
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(site);
}

/// Tests in a module for each way, one for each check.
macro_rules! over_every_way {
    ($($check:ident),+ $(,)?) => {
        mod host {
            $(
                #[test]
                fn $check() {
                    crate::over::over(crate::site::Way::Host, super::$check);
                }
            )+
        }
    };
}
