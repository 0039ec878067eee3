//! Builds `go/` into an archive that the program holds. Answers for the right Go, the pinned modules, and an archive
//! that does nothing until it is called. Never downloads anything that `go/go.sum` does not pin.

#![expect(clippy::disallowed_methods, reason = "a build script runs Go and reads what cargo tells it")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// The first Go that builds the pinned modules; go/go.mod says the same.
const GO: (u32, u32, u32) = (1, 26, 5);
/// What start.c calls the entry of the Go runtime.
const START: &str = "tailops_go_start";
/// The resolvers of Go instead of those of the C library, and no web interface.
const TAGS: &str = "netgo,osusergo,ts_omit_webclient";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let source = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("go");
    let out = PathBuf::from(variable("OUT_DIR")?);
    for entry in fs::read_dir(&source).map_err(|error| format!("{}: {error}", source.display()))? {
        let path = entry.map_err(|error| error.to_string())?.path();
        println!("cargo::rerun-if-changed={}", path.display());
    }
    for name in ["GO", "CC", "OBJCOPY", "GOFLAGS", "GOTOOLCHAIN"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let os = variable("CARGO_CFG_TARGET_OS")?;
    let architecture = match variable("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => return Err(format!("the embedded node is not built for {os} on {other}")),
    };
    if os != "linux" {
        return Err(format!("the embedded node is built for Linux, not for {os}"));
    }
    let go = env::var_os("GO").unwrap_or_else(|| "go".into());
    check_version(&output(Command::new(&go).args(["env", "GOVERSION"]).current_dir(&source))?)?;

    let archive = out.join("libtailops_node.a");
    let built = output(
        Command::new(&go)
            .args(["build", "-buildmode=c-archive", "-trimpath", "-mod=readonly", "-tags", TAGS, "-ldflags", "-s -w"])
            .arg("-o")
            .arg(&archive)
            .arg(".")
            .current_dir(&source)
            .env("GOOS", "linux")
            .env("GOARCH", architecture)
            .env("CGO_ENABLED", "1"),
    );
    built.map_err(|error| {
        format!(
            "{error}\nThe modules that node/go/go.sum pins are downloaded on the first build: from proxy.golang.org, or \
             where GOPROXY says."
        )
    })?;
    start_nothing(&archive, architecture)?;
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static=tailops_node");
    Ok(())
}

/// Takes the entry of the Go runtime from the section of what the loader calls in every process of the program, and
/// makes it callable by its own name.
fn start_nothing(archive: &Path, architecture: &str) -> Result<(), String> {
    let objcopy = env::var_os("OBJCOPY").unwrap_or_else(|| "objcopy".into());
    output(
        Command::new(objcopy)
            .arg("--rename-section=.init_array=tailops_go_not_called,alloc,load,data,contents")
            .arg(format!("--redefine-sym=_rt0_{architecture}_linux_lib={START}"))
            .arg(format!("--globalize-symbol={START}"))
            .arg(archive),
    )
    .map(drop)
}

/// What `command` says on standard output.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| {
        format!(
            "cannot run `{program}`: {error}\nThe feature `embedded` needs Go {} or newer (https://go.dev/dl) and \
             binutils; without it tailops still joins a tailnet through a tailscaled (node.mode = \"host\").",
            version(GO)
        )
    })?;
    if !output.status.success() {
        return Err(format!("`{program}` failed: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Refuses a Go that is older than [`GO`]. `found` is such as `go1.26.8`; one that cannot be read is left to Go itself.
fn check_version(found: &str) -> Result<(), String> {
    let mut numbers = found.trim_start_matches("go").splitn(3, '.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().unwrap_or(0)
    });
    let mut next = || numbers.next().unwrap_or(0);
    let parsed = (next(), next(), next());
    if found.starts_with("go") && parsed < GO {
        return Err(format!("{found} is too old to build the embedded node: it needs Go {} or newer", version(GO)));
    }
    Ok(())
}

fn version((major, minor, patch): (u32, u32, u32)) -> String {
    format!("{major}.{minor}.{patch}")
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
