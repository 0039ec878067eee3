//! A connection to a peer through the daemon, for daemons without a network device of their own. Takes only what the
//! daemon carries over the tailnet; never falls back to the network of this machine.

use std::{io, net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{DIAL_WITHIN, LocalApi, LocalApiError, MOST_REFUSAL, broken, link, refusal};
use crate::tailnet::Stream;

/// The longest head of an answer, in bytes.
const MOST_HEAD: usize = 8192;

impl LocalApi {
    /// A connection to `port` of `address`, an address of a peer.
    pub(in crate::tailnet) async fn dial(&self, address: IpAddr, port: u16) -> Result<Stream, LocalApiError> {
        let dialled = timeout(DIAL_WITHIN, async {
            let _turn = self.0.dials.acquire().await.map_err(|error| broken(&error))?;
            let mut stream = self.0.daemon.connect().await?;
            let mut head = format!(
                "POST /localapi/v0/dial HTTP/1.1\r\nHost: {}\r\nConnection: upgrade\r\nUpgrade: ts-dial\r\n\
                 Dial-Host: {address}\r\nDial-Port: {port}\r\nDial-Network: tcp\r\nContent-Length: 0\r\n",
                link::HOST
            );
            for (name, value) in self.0.daemon.headers() {
                head.extend([name, ": ", &value, "\r\n"]);
            }
            head.push_str("\r\n");
            stream.write_all(head.as_bytes()).await.map_err(LocalApiError::Io)?;
            let head = Head::read(&mut stream).await?;
            if head.status == 101 && head.value("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("ts-dial")) {
                return Ok(stream);
            }
            if head.value("dial-self").is_some() {
                return Err(LocalApiError::Denied("the address is not on the tailnet".to_owned()));
            }
            if (200..400).contains(&head.status) || head.status < 200 {
                return Err(LocalApiError::Nonsense(format!("status {} instead of a connection", head.status)));
            }
            let length = head.value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let mut text = Vec::new();
            let mut body = stream.take(u64::min(length, MOST_REFUSAL as u64));
            // What it says is worth a moment, not the whole time.
            let _ = timeout(Duration::from_millis(500), body.read_to_end(&mut text)).await;
            Err(refusal(head.status, &text))
        });
        dialled.await.map_err(|_| LocalApiError::TimedOut(DIAL_WITHIN))?
    }
}

/// The head of an answer.
struct Head {
    status: u16,
    /// Names in lower case.
    fields: Vec<(String, String)>,
}

impl Head {
    /// Reads not one byte more than the head: what follows belongs to the peer.
    async fn read(stream: &mut Stream) -> Result<Self, LocalApiError> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MOST_HEAD {
                return Err(LocalApiError::Nonsense("its head is too long".to_owned()));
            }
            let byte = stream.read_u8().await.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => LocalApiError::Io(io::Error::new(error.kind(), "it hung up")),
                _ => LocalApiError::Io(error),
            })?;
            head.push(byte);
        }
        Self::parse(&head).ok_or_else(|| LocalApiError::Nonsense("its answer is not HTTP".to_owned()))
    }

    fn parse(head: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?;
        let status =
            status.get(..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?.parse().ok()?;
        let fields = lines.filter(|line| !line.is_empty());
        let fields = fields.map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        Some(Self { status, fields: fields.collect::<Option<_>>()? })
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}
