//! Makes one list of checks into tests over every way to be on the tailnet. There is one gateway for each way, which the
//! tests use in turn; a test that fails takes it along, and the next starts another.

use std::sync::{Mutex, PoisonError};

use crate::{
    lab::{Turn, turn},
    site::{Site, Way},
};

static IDLE: Mutex<Vec<Site>> = Mutex::new(Vec::new());

/// Lends `work` the gateway that is on the tailnet in this way, in its turn.
pub fn lend(way: Way, work: impl FnOnce(&mut Site)) {
    let Some(lab) = turn() else { return };
    let mut site = idle(way).unwrap_or_else(|| Site::open(lab.lab, way));
    site.begin();
    work(&mut site);
    site.end();
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(site);
}

/// Stops the gateway that is on the tailnet in this way, if there is one, for a test that wants its place.
pub fn retire(way: Way, _: &Turn) {
    if let Some(site) = idle(way) {
        site.gateway.stop();
    }
}

fn idle(way: Way) -> Option<Site> {
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    idle.iter().position(|site| site.way == way).map(|place| idle.remove(place))
}

/// Tests in a module for each way, one for each check.
macro_rules! over_every_way {
    ($($check:ident),+ $(,)?) => {
        mod host {
            $(
                #[test]
                fn $check() {
                    crate::over::lend(crate::site::Way::Host, |site| super::$check(site));
                }
            )+
        }

        #[cfg(feature = "embedded")]
        mod embedded {
            $(
                #[test]
                fn $check() {
                    crate::over::lend(crate::site::Way::Embedded, |site| super::$check(site));
                }
            )+
        }
    };
}
