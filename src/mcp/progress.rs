//! Progress of a call, for clients that ask for it with a token: where it runs, for how long, how much was read. Never
//! what was read.

use std::{pin::pin, time::Duration};

use rmcp::{
    Peer, RoleServer,
    model::{ProgressNotificationParam, ProgressToken},
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::model::{Progress, Tally, format_size};

/// The least time between two notifications.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs `call` to its end, and tells `peer` meanwhile how far it has come: at once when its turn has come, then once a
/// second. A call that the gateway answers by itself gets none.
pub(super) async fn reported<T>(
    call: impl Future<Output = T>,
    progress: &Progress,
    peer: &Peer<RoleServer>,
    token: ProgressToken,
) -> T {
    let mut call = pin!(call);
    let target = tokio::select! {
        biased;
        target = progress.begun() => target,
        result = call.as_mut() => return result,
    };
    let began = Instant::now();
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {
                let seconds = began.elapsed().as_secs_f64();
                // What is notified must grow, also while no target is over: the time does.
                let message = match progress.tally() {
                    Some(tally) => over_many(tally),
                    None => format!("{}, {} read", running(target.as_str(), seconds), format_size(progress.bytes())),
                };
                let now = ProgressNotificationParam::new(token.clone(), seconds).with_message(message);
                // A client that is gone is noticed elsewhere.
                let _ = peer.notify_progress(now).await;
            }
            result = call.as_mut() => return result,
        }
    }
}

fn over_many(Tally { done, failed, of }: Tally) -> String {
    match failed {
        0 => format!("{done} of {of} targets"),
        failed => format!("{done} of {of} targets, {failed} without facts"),
    }
}

fn running(target: &str, seconds: f64) -> String {
    if seconds < 0.5 { format!("running on {target}") } else { format!("running on {target} for {seconds:.0} s") }
}
