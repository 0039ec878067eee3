//! An operation alone runs nowhere.
use tailops::{
    exec::Executors,
    model::{Operation, Progress},
};
use tokio_util::sync::CancellationToken;

async fn run(executors: &Executors, operation: Operation) {
    let _ = executors.run(operation, &CancellationToken::new(), &Progress::default()).await;
}

fn main() {}
