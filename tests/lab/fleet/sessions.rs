//! More calls than a host takes sessions: each waits for its turn, and is answered.

use serde_json::json;

use super::{lend, of};

/// Calls at the same time.
const CALLS: usize = 24;

#[test]
fn a_host_that_takes_few_sessions_answers_every_call() {
    lend(|fleet| {
        let host = &fleet.web1;
        host.configure_sshd("PasswordAuthentication no\nMaxSessions 4\nMaxStartups 4:50:8\n");
        host.throw_out();
        let fleet = &*fleet;
        let answers = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..CALLS)
                .map(|_| scope.spawn(|| fleet.call("host_inspect", of(host, json!({"sections": ["os"]})))))
                .collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect::<Vec<_>>()
        });
        for answer in answers {
            assert_eq!(answer.data()["hostname"], host.name(), "{}", answer.body);
        }
        host.configure_sshd("PasswordAuthentication no\n");
    });
}
