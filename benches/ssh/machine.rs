//! The other end: OpenSSH's own server with keys of its own on addresses of loopback, as the user who runs the
//! benchmark. Ends with its owner.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// Where Debian's openssh-server puts it. It re-executes itself, so it needs its full path.
pub(crate) const SSHD: &str = "/usr/sbin/sshd";

/// The most addresses that one server listens on: a constant of OpenSSH's.
const ADDRESSES: usize = 16;

/// How many targets have a tag in common.
pub(crate) const GROUP: usize = 4;

const PATIENCE: Duration = Duration::from_secs(10);

/// A child that does not outlive us.
pub(crate) struct Owned(pub(crate) Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "what is measured against runs in child processes of the benchmark")]
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    Command::new(program.as_ref())
}

/// Runs `command`, which must succeed, and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// What the benchmark needs and this machine does not have.
pub(crate) fn missing() -> Option<String> {
    if !Path::new(SSHD).exists() {
        return Some(format!("there is no {SSHD} (Debian: openssh-server)"));
    }
    let here = |program: &&str| command(program).arg("-?").stdin(Stdio::null()).output().is_ok();
    let missing = ["ssh", "ssh-keygen"].into_iter().find(|program| !here(program))?;
    Some(format!("there is no {missing} (Debian: openssh-client)"))
}

/// Servers on a port of loopback that are one machine, and what it takes to log in there.
pub(crate) struct Machine {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) port: u16,
    pub(crate) user: String,
    /// The private key to log in with.
    pub(crate) key: PathBuf,
    /// The host key, as known_hosts lists it for every address.
    pub(crate) known_hosts: PathBuf,
    /// The same, as a registry file pins it.
    pub(crate) pin: String,
    _servers: Vec<Owned>,
}

impl Machine {
    /// One on 127.0.0.1 and `more` addresses besides, with its files in `folder`.
    pub(crate) fn start(folder: &Path, more: usize) -> Result<Self> {
        let key = |name: &str| -> Result<PathBuf> {
            let path = folder.join(name);
            output(command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path))?;
            Ok(path)
        };
        let (host_key, login_key) = (key("host_key")?, key("login_key")?);
        let public = fs::read_to_string(host_key.with_extension("pub"))?;
        let authorized = folder.join("authorized_keys");
        fs::copy(login_key.with_extension("pub"), &authorized)?;
        // An empty one: what the user's shell reads at its start is no part of either side.
        let home = folder.join("home");
        fs::create_dir(&home)?;
        let printed = output(command("ssh-keygen").arg("-lf").arg(&host_key))?;
        let fingerprint = printed.split(' ').nth(1).context("ssh-keygen prints no fingerprint")?;
        if uzers::get_effective_uid() == 0 {
            // Where its unprivileged half lives.
            fs::create_dir_all("/run/sshd")?;
        }
        let others = (0..more).map(|n| -> Result<IpAddr> {
            let (third, fourth) = (u8::try_from(1 + n / 250)?, u8::try_from(1 + n % 250)?);
            Ok(Ipv4Addr::new(127, 0, third, fourth).into())
        });
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        let addresses = std::iter::once(Ok(here)).chain(others).collect::<Result<Vec<_>>>()?;
        let port = TcpListener::bind((here, 0))?.local_addr()?.port();
        let known: Vec<String> = addresses.iter().map(|ip| format!("[{ip}]:{port} {}", public.trim())).collect();
        let known_hosts = folder.join("known_hosts");
        fs::write(&known_hosts, known.join("\n") + "\n")?;
        let mut servers = Vec::new();
        for (number, addresses) in addresses.chunks(ADDRESSES).enumerate() {
            let listen: String = addresses.iter().map(|ip| format!("ListenAddress {ip}\n")).collect();
            let config = folder.join(format!("sshd_config.{number}"));
            fs::write(
                &config,
                format!(
                    "Port {port}\n{listen}HostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
                     UseDNS no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                     PermitRootLogin prohibit-password\nMaxStartups 1000\nPrintMotd no\nLogLevel ERROR\n\
                     SetEnv HOME={}\n",
                    host_key.display(),
                    authorized.display(),
                    home.display(),
                ),
            )?;
            let log = fs::File::create(folder.join(format!("sshd.{number}.log")))?;
            let mut sshd = command(SSHD);
            sshd.args(["-D", "-e", "-f"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            servers.push(Owned(sshd.spawn()?));
        }
        for ip in &addresses {
            listening(SocketAddr::new(*ip, port)).with_context(|| logs(folder))?;
        }
        let user = uzers::get_current_username().context("the user has no name")?;
        let user = user.into_string().ok().context("the user's name is no text")?;
        let pin = format!("{fingerprint} ssh-ed25519");
        Ok(Self { addresses, port, user, key: login_key, known_hosts, pin, _servers: servers })
    }

    /// The registry file of its addresses: targets `host-1`, `host-2`, …, tagged `group-1`, …, with [`GROUP`] in each.
    pub(crate) fn registry(&self) -> String {
        let mut text = "version: \"1.0\"\ntargets:\n".to_owned();
        for (number, ip) in self.addresses.iter().enumerate() {
            text += &format!(
                "  host-{number}:\n    type: remote\n    executor: ssh\n    engagement: default\n    \
                 connection: {{host: \"{ip}\", port: {}, username: {:?}, key_path: {:?}, host_keys: [{:?}]}}\n    \
                 capabilities: [\"system:read\"]\n    metadata: {{tags: [group-{}]}}\n",
                self.port,
                self.user,
                self.key,
                self.pin,
                number / GROUP
            );
        }
        text
    }
}

fn logs(folder: &Path) -> String {
    fs::read_to_string(folder.join("sshd.0.log")).unwrap_or_default()
}

fn listening(address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        if start.elapsed() > PATIENCE {
            bail!("nothing listens on {address}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
