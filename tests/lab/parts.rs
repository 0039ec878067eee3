//! What the lab is made of that others wrote: headscale, tailscaled and tailscale, built from two pinned Go modules.
//! Each is built once and kept under `target/lab`, by the digest of its go.mod and go.sum.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use ring::digest;

/// The programs, built.
pub struct Parts {
    pub headscale: PathBuf,
    pub tailscale: PathBuf,
    pub tailscaled: PathBuf,
}

/// One Go module of the lab and the commands built from it.
struct Module {
    name: &'static str,
    packages: &'static [&'static str],
}

const HEADSCALE: Module = Module { name: "headscale", packages: &["github.com/juanfont/headscale/cmd/headscale"] };
const TAILSCALE: Module =
    Module { name: "tailscale", packages: &["tailscale.com/cmd/tailscale", "tailscale.com/cmd/tailscaled"] };

impl Parts {
    /// Builds what is not built yet. The caller's GOCACHE, GOMODCACHE, GOPROXY and GOFLAGS hold.
    pub fn build() -> Self {
        // One downloads while the other compiles.
        let (tailscale, headscale) = std::thread::scope(|scope| {
            let headscale = scope.spawn(|| HEADSCALE.built());
            (TAILSCALE.built(), headscale.join().unwrap())
        });
        Self {
            headscale: headscale.join("headscale"),
            tailscale: tailscale.join("tailscale"),
            tailscaled: tailscale.join("tailscaled"),
        }
    }
}

/// The first thing that the lab needs and that is not here.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root, for network namespaces".to_owned());
    }
    if fs::File::options().read(true).write(true).open("/dev/net/tun").is_err() {
        return Some("it needs /dev/net/tun".to_owned());
    }
    if !succeeds(Command::new("ip").arg("-Version")) {
        return Some("it needs `ip` (package iproute2)".to_owned());
    }
    // Some containers let root do everything else.
    if !succeeds(Command::new("unshare").args(["--net", "true"])) {
        return Some("it needs the right to make network namespaces".to_owned());
    }
    [TAILSCALE, HEADSCALE].iter().find_map(Module::cannot_be_built)
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Module {
    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/go").join(self.name)
    }

    /// The directory that holds the commands once they are built.
    fn products(&self) -> PathBuf {
        let mut hash = digest::Context::new(&digest::SHA256);
        for file in ["go.mod", "go.sum"] {
            hash.update(&fs::read(self.source().join(file)).unwrap());
        }
        let digest: String = hash.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab").join(format!("{}-{digest}", self.name))
    }

    fn cannot_be_built(&self) -> Option<String> {
        if self.products().exists() {
            return None;
        }
        let text = fs::read_to_string(self.source().join("go.mod")).unwrap();
        let needed = text.lines().find_map(|line| line.strip_prefix("go ")).unwrap();
        // In the module's directory: there the toolchain is chosen that would build it.
        let output = Command::new("go").args(["env", "GOVERSION"]).current_dir(self.source()).output();
        let found = match output {
            Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
            _ => return Some(format!("it needs Go {needed} or newer")),
        };
        let is_enough = numbers(found.trim().trim_start_matches("go")) >= numbers(needed);
        (!is_enough).then(|| format!("it needs Go {needed} or newer, and there is {}", found.trim()))
    }

    fn built(&self) -> PathBuf {
        let products = self.products();
        if products.exists() {
            return products;
        }
        let line = format!("lab: building {}, once; it takes minutes where Go's caches are empty", self.name);
        let _ = writeln!(std::io::stderr(), "{line}");
        remove_unfinished(&products);
        let unfinished = products.with_extension(std::process::id().to_string());
        fs::create_dir_all(&unfinished).unwrap();
        let mut command = Command::new("go");
        command.args(["build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"]).arg(&unfinished);
        command.args(self.packages).current_dir(self.source()).env("CGO_ENABLED", "0");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        // One that another run has finished meanwhile is as good.
        if fs::rename(&unfinished, &products).is_err() {
            fs::remove_dir_all(&unfinished).unwrap();
        }
        for entry in fs::read_dir(&products).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert!(mode & 0o100 != 0, "a product of {} is no program", self.name);
        }
        products
    }
}

/// Removes what builds left that were killed.
fn remove_unfinished(products: &Path) {
    let name = products.file_name().unwrap().to_str().unwrap();
    for entry in fs::read_dir(products.parent().unwrap()).into_iter().flatten().flatten() {
        let pid =
            entry.file_name().to_str().and_then(|found| found.strip_prefix(name)?.strip_prefix('.')?.parse().ok());
        if pid.is_some_and(|pid: u32| !Path::new("/proc").join(pid.to_string()).exists()) {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

/// `1.26.8` as numbers that compare; what follows a number (`rc1`) is left out.
fn numbers(version: &str) -> Vec<u32> {
    let number = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    version.split('.').map(number).collect()
}

#[test]
fn go_versions_compare_by_number() {
    assert!(numbers("1.26.8") > numbers("1.26.5") && numbers("1.26.10") > numbers("1.26.9"));
    assert!(numbers("1.27") > numbers("1.26.5") && numbers("1.19.8") < numbers("1.26.5"));
    assert_eq!(numbers("1.27rc1"), [1, 27]);
}
