//! Which failures of a listener pass, that listeners come and go with their addresses, and that nothing is lost then.

use std::{collections::VecDeque, net::TcpStream as Client, sync::Mutex};

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn errors_that_pass_do_not_end_the_service_and_others_do() {
    let script = |errors: &[Errno]| {
        let left: Mutex<VecDeque<Errno>> = Mutex::new(errors.iter().copied().collect());
        patiently(move || {
            let next = left.lock().unwrap().pop_front();
            async move { next.map_or(Ok(()), |errno| Err(io::Error::from(errno))) }
        })
    };
    let passing: Vec<Errno> = [OF_THE_PEER, EXHAUSTED].concat();
    script(&passing).await.unwrap();
    script(&[Errno::CONNABORTED; SKIPS + 2]).await.unwrap();
    for fatal in [Errno::BADF, Errno::INVAL, Errno::NOTSOCK] {
        let error = script(&[Errno::CONNABORTED, fatal]).await.unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(fatal));
    }
}

/// A failure that never ends must leave the processor to others.
#[tokio::test]
async fn a_lasting_failure_does_not_spin() {
    for errno in [Errno::MFILE, Errno::PERM] {
        let tries = AtomicUsize::new(0);
        let accept = patiently(|| {
            tries.fetch_add(1, Ordering::Relaxed);
            async { Err::<(), _>(io::Error::from(errno)) }
        });
        let accept = tokio::time::timeout(Duration::from_millis(200), accept);
        assert!(accept.await.is_err());
        // The waits double from 5 ms, so 200 ms hold at most six of them.
        assert!(tries.load(Ordering::Relaxed) <= 7 * (SKIPS + 1), "{errno}: {tries:?}");
    }
}

#[tokio::test]
async fn listeners_come_and_go_while_somebody_waits() {
    let listeners = Arc::new(Listeners::default());
    let waiting = tokio::spawn({
        let listeners = Arc::clone(&listeners);
        async move { listeners.accept().await.unwrap().local }
    });
    assert!(listeners.follow(&[address("127.0.0.1:0")]).await.is_empty());
    let first = listeners.addresses()[0];
    let _client = Client::connect(first).unwrap();
    assert_eq!(waiting.await.unwrap(), first);

    // One more; the first one stays as it is, with what waits at it.
    let _queued = Client::connect(first).unwrap();
    assert!(listeners.follow(&[address("127.0.0.1:0"), address("127.0.0.2:0")]).await.is_empty());
    let [kept, second] = listeners.addresses()[..] else { panic!("not two") };
    assert_eq!(kept, first);
    assert_eq!(listeners.accept().await.unwrap().local, first);

    // The first one goes.
    assert!(listeners.follow(&[address("127.0.0.2:0")]).await.is_empty());
    assert_eq!(listeners.addresses(), [second]);
    let _client = Client::connect(second).unwrap();
    assert_eq!(listeners.accept().await.unwrap().local, second);
    assert!(Client::connect(first).is_err());
}

#[tokio::test]
async fn an_address_that_is_not_there_is_named_and_the_others_are_kept() {
    let listeners = Listeners::default();
    // For documentation (RFC 5737): no machine has it.
    let addresses = [address("192.0.2.1:0"), address("127.0.0.1:0")];
    let failed = listeners.follow(&addresses).await;
    assert_eq!(failed.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [addresses[0]]);
    assert_eq!(listeners.addresses().len(), 1);
    let (named, error) = Listeners::default().listen(&addresses).await.unwrap_err();
    assert_eq!((named, error.kind()), (addresses[0], io::ErrorKind::AddrNotAvailable));
}
