//! An operation alone runs nowhere.
use tailops::{
    exec::Executors,
    model::{Attribution, Operation, Progress},
};
use tokio_util::sync::CancellationToken;

async fn run(executors: &Executors, operation: Operation, whom: &Attribution) {
    let _ = executors.run(operation, whom, &CancellationToken::new(), &Progress::default()).await;
}

fn main() {}
