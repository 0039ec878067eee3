//! Who owns one end of a TCP connection of this machine, from the kernel's tables `/proc/net/tcp` and `tcp6`
//! (proc(5)). Answers for reading them strictly: a table that does not look as expected is an error, not an absence.
//! Never decides whether that owner may connect.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::Unidentified;

/// Connection state `TCP_ESTABLISHED`. Rows in other states may show another uid than the owner's, e.g. 0 in TIME_WAIT.
const ESTABLISHED: u64 = 1;

/// The longest row that is believed. The kernel pads rows to 150 characters (tcp) or writes about 180 (tcp6).
const MAX_ROW: usize = 1024;

/// The uid that owns the end `client` of the established connection to `server`. Reads files: not for async threads.
///
/// Errors if no row matches both ends, if rows of different users do, or if a table cannot be read.
pub(super) fn owner(client: SocketAddr, server: SocketAddr) -> Result<u32, Unidentified> {
    // The kernel hands a table out in pieces and may skip a row when a neighbour in its hash chain goes meanwhile, so
    // a row is missing only if a second look misses it too.
    for _ in 0..2 {
        for table in tables(client.ip()) {
            let found = File::open(table)
                .map_err(Unidentified::Lookup)
                .and_then(|file| search(BufReader::with_capacity(64 * 1024, file), client, server))?;
            if let Some(uid) = found {
                return Ok(uid);
            }
        }
    }
    Err(Unidentified::NotFound)
}

/// Where the client's socket may be listed: one for IPv4 may be an IPv6 socket with a mapped address.
fn tables(client: IpAddr) -> &'static [&'static str] {
    match client.to_canonical() {
        IpAddr::V4(_) => &["/proc/net/tcp", "/proc/net/tcp6"],
        IpAddr::V6(_) => &["/proc/net/tcp6"],
    }
}

/// The uid in the row of `table` for this connection. Nothing is allocated per row.
fn search(mut table: impl BufRead, client: SocketAddr, server: SocketAddr) -> Result<Option<u32>, Unidentified> {
    let (client, server) = (end(client), end(server));
    let mut line = Vec::with_capacity(MAX_ROW);
    next_line(&mut table, &mut line)?;
    if !line.trim_ascii_start().starts_with(b"sl ") {
        return Err(unreadable("it has no header"));
    }
    let mut found = None;
    while next_line(&mut table, &mut line)? {
        let row = Row::parse(&line).ok_or_else(|| unreadable("a row has an unknown form"))?;
        if row.state != ESTABLISHED || row.local != client || row.remote != server {
            continue;
        }
        if found.is_some_and(|uid| uid != row.uid) {
            return Err(Unidentified::Ambiguous);
        }
        found = Some(row.uid);
    }
    Ok(found)
}

fn unreadable(what: &str) -> Unidentified {
    Unidentified::Lookup(io::Error::new(io::ErrorKind::InvalidData, format!("table of connections: {what}")))
}

/// Reads one line into `line`; false at the end. A line that is cut off or too long is an error.
fn next_line(table: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, Unidentified> {
    line.clear();
    let read = io::Read::take(&mut *table, MAX_ROW as u64).read_until(b'\n', line).map_err(Unidentified::Lookup)?;
    match line.last() {
        None => Ok(false),
        Some(b'\n') if read > 0 => Ok(true),
        _ => Err(unreadable("a row is cut off or too long")),
    }
}

/// One end of a connection. A mapped address equals the IPv4 address it carries; flow and scope do not count.
type End = (IpAddr, u16);

fn end(address: SocketAddr) -> End {
    (address.ip().to_canonical(), address.port())
}

/// The columns of a row that are needed.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    local: End,
    remote: End,
    state: u64,
    uid: u32,
}

impl Row {
    /// Columns: slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode, and more.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut columns = line.split(|byte| byte.is_ascii_whitespace()).filter(|column| !column.is_empty());
        columns.next()?.strip_suffix(b":")?;
        let local = parse_end(columns.next()?)?;
        let remote = parse_end(columns.next()?)?;
        let state = columns.next().filter(|state| state.len() == 2).and_then(hex)?;
        let uid = decimal(columns.nth(3)?)?;
        // A uid is complete only if columns follow it.
        decimal(columns.next()?)?;
        columns.next()?;
        Some(Self { local, remote, state, uid })
    }
}

/// `0100007F:1F90`, or four such words before the colon for IPv6. Each word is printed as a number whose bytes in
/// memory are the address in network order, so it is turned back in this machine's byte order.
fn parse_end(text: &[u8]) -> Option<End> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    let (address, port) = (text.get(..colon)?, text.get(colon + 1..)?);
    if port.len() != 4 {
        return None;
    }
    let port = u16::try_from(hex(port)?).ok()?;
    let word = |text: &[u8]| hex(text).and_then(|word| u32::try_from(word).ok()).map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(address)?)),
        32 => {
            let mut bytes = [0; 16];
            for (to, from) in bytes.chunks_exact_mut(4).zip(address.chunks_exact(8)) {
                to.copy_from_slice(&word(from)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((address.to_canonical(), port))
}

/// 1 to 16 hexadecimal digits, nothing else.
fn hex(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter().try_fold(0, |value, &byte| Some(value << 4 | u64::from(char::from(byte).to_digit(16)?)))
}

/// Decimal digits that fit 32 bits, nothing else.
fn decimal(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u32, |value, &byte| value.checked_mul(10)?.checked_add(char::from(byte).to_digit(10)?))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    const HEADER: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// As the kernel prints it.
    fn print(address: SocketAddr) -> String {
        let words: Vec<u8> = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let mut text = String::new();
        for word in words.chunks(4) {
            write!(text, "{:08X}", u32::from_ne_bytes(word.try_into().unwrap())).unwrap();
        }
        write!(text, ":{:04X}", address.port()).unwrap();
        text
    }

    fn row(local: &str, remote: &str, state: &str, uid: &str) -> String {
        let (local, remote) = (print(address(local)), print(address(remote)));
        format!(
            "   1: {local} {remote} {state} 00000000:00000000 02:000005AC 00000000 {uid:>5}        0 9 2 0 20 4 30 10 -1\n"
        )
    }

    fn find(rows: &[String], client: &str, server: &str) -> Result<Option<u32>, &'static str> {
        let table = format!("{HEADER}{}", rows.concat());
        search(table.as_bytes(), address(client), address(server)).map_err(|error| error.code())
    }

    #[test]
    fn only_the_clients_end_of_this_connection_counts() {
        let (client, server) = ("127.0.0.1:40000", "127.0.0.1:8080");
        let others = [
            row(server, client, "01", "0"),
            row(client, "127.0.0.1:8081", "01", "1"),
            row("127.0.0.1:40001", server, "01", "2"),
            row("127.0.0.2:40000", server, "01", "3"),
            row(client, "127.0.0.2:8080", "01", "4"),
        ];
        assert_eq!(find(&others, client, server), Ok(None));
        let mut rows = others.to_vec();
        rows.push(row(client, server, "01", "1000"));
        assert_eq!(find(&rows, client, server), Ok(Some(1000)));
    }

    #[test]
    fn a_connection_that_is_not_established_has_no_owner() {
        for state in ["02", "03", "04", "05", "06", "07", "08", "09", "0A", "0B", "0C", "11"] {
            let rows = [row("127.0.0.1:40000", "127.0.0.1:8080", state, "1000")];
            assert_eq!(find(&rows, "127.0.0.1:40000", "127.0.0.1:8080"), Ok(None), "{state}");
        }
    }

    #[test]
    fn two_owners_are_refused_and_one_named_twice_is_not() {
        let (client, server) = ("[::1]:40000", "[::1]:8080");
        let rows = |uids: [&str; 2]| uids.map(|uid| row(client, server, "01", uid));
        assert_eq!(find(&rows(["1000", "1001"]), client, server), Err("peer_ambiguous"));
        assert_eq!(find(&rows(["1000", "1000"]), client, server), Ok(Some(1000)));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped = [row("[::ffff:127.0.0.1]:40000", "[::ffff:127.0.0.1]:8080", "01", "7")];
        assert_eq!(find(&mapped, "127.0.0.1:40000", "127.0.0.1:8080"), Ok(Some(7)));
        assert_eq!(find(&mapped, "[::ffff:127.0.0.1]:40000", "127.0.0.1:8080"), Ok(Some(7)));
        let compatible = [row("[::7f00:1]:40000", "[::7f00:1]:8080", "01", "7")];
        assert_eq!(find(&compatible, "127.0.0.1:40000", "127.0.0.1:8080"), Ok(None));
    }

    #[test]
    fn a_table_of_unknown_form_is_refused() {
        let good = row("127.0.0.1:40000", "127.0.0.1:8080", "01", "1000");
        let bad = [
            good.replace(" 1000 ", " -1 "),
            good.replace(" 1000 ", " 4294967296 "),
            good.replace(" 1000 ", " 99999999999999999999 "),
            good.replace(" 1000 ", " 1e3 "),
            good.replace(" 1000 ", " +1000 "),
            good.replace("0100007F", "0100007G"),
            good.replace("0100007F", "0100007F00"),
            good.replace(":9C40", ":09C40"),
            good.replace(":9C40", ":C40"),
            good.replace(" 01 ", " 1 "),
            good.replace(" 01 ", " 0x01 "),
            good.replace("   1: ", "   1 "),
            good[..good.find(" 1000").unwrap() + 3].to_owned() + "\n",
            "\n".to_owned(),
            "\0\n".to_owned(),
            " ".repeat(MAX_ROW) + "\n",
        ];
        for bad in bad {
            assert_ne!(bad, good);
            // Before and behind a good row: what follows must not be read past, what precedes must not be trusted.
            assert_eq!(
                find(&[bad.clone(), good.clone()], "127.0.0.1:40000", "127.0.0.1:8080"),
                Err("peer_lookup_failed"),
                "{bad:?}"
            );
            assert_eq!(
                find(&[good.clone(), bad.clone()], "127.0.0.1:40000", "127.0.0.1:8080"),
                Err("peer_lookup_failed"),
                "{bad:?}"
            );
        }
        let cut_off = good.trim_end().to_owned();
        assert_eq!(find(&[cut_off], "127.0.0.1:40000", "127.0.0.1:8080"), Err("peer_lookup_failed"));
        for headless in ["", "\n", good.as_str()] {
            let result = search(headless.as_bytes(), address("127.0.0.1:40000"), address("127.0.0.1:8080"));
            assert_eq!(result.unwrap_err().code(), "peer_lookup_failed", "{headless:?}");
        }
    }

    #[test]
    fn rows_are_found_across_many_others() {
        let mut rows: Vec<String> = (0..20_000)
            .map(|n| row(&format!("10.0.{}.{}:1000", n / 256, n % 256), "10.9.9.9:443", "01", "5"))
            .collect();
        rows.push(row("127.0.0.1:40000", "127.0.0.1:8080", "01", "4294967295"));
        assert_eq!(find(&rows, "127.0.0.1:40000", "127.0.0.1:8080"), Ok(Some(u32::MAX)));
    }

    proptest! {
        #[test]
        fn addresses_survive_the_kernels_notation(ip: IpAddr, port: u16) {
            prop_assert_eq!(parse_end(print(SocketAddr::new(ip, port)).as_bytes()), Some((ip.to_canonical(), port)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), after_header: bool) {
            let table = if after_header { [HEADER.as_bytes(), &bytes].concat() } else { bytes };
            let _ = search(&table[..], address("127.0.0.1:1"), address("127.0.0.1:2"));
        }

        #[test]
        fn a_table_cut_short_never_names_another_owner(length in 0_usize..600) {
            let rows = ["1000", "1000"].map(|uid| row("127.0.0.1:40000", "127.0.0.1:8080", "01", uid));
            let table = format!("{HEADER}{}", rows.concat());
            let cut = &table.as_bytes()[..length.min(table.len())];
            if let Ok(Some(found)) = search(cut, address("127.0.0.1:40000"), address("127.0.0.1:8080")) {
                prop_assert_eq!(found, 1000);
            }
        }
    }
}
