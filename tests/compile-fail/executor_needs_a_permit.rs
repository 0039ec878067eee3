//! An operation alone runs nowhere.
use tailops::{exec::Executors, model::Operation};
use tokio_util::sync::CancellationToken;

async fn run(executors: &Executors, operation: Operation) {
    let _ = executors.run(operation, &CancellationToken::new()).await;
}

fn main() {}
